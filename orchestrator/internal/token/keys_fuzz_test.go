package token

import (
	"crypto/rsa"
	"testing"
)

// FuzzKeys reads key sets. What is left are public keys that can verify signatures.
func FuzzKeys(f *testing.F) {
	f.Add([]byte(`{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}`))
	f.Add([]byte(`{"keys": [{"kty": "RSA", "n": "AQ", "e": "AQAB"}]}`))
	f.Add([]byte(`{"keys": [{"kty": "oct", "k": "c2VjcmV0", "use": "sig"}, null, {}, 7]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := parseKeys(data)
		if (err == nil) != (len(found) > 0) {
			t.Fatalf("%d keys and the error %v", len(found), err)
		}
		for i := range found {
			if !found[i].Valid() || !found[i].IsPublic() || found[i].Use == "enc" {
				t.Errorf("a key that verifies no signature: %v", found[i].KeyID)
			}
			if key, isRSA := found[i].Key.(*rsa.PublicKey); isRSA && key.N.BitLen() < minRSABits {
				t.Errorf("an RSA key of %d bits", key.N.BitLen())
			}
		}
	})
}
