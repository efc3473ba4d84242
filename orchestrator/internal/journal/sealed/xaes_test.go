package sealed

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"testing"
)

// TestXAES holds the cipher to the vectors of its specification.
func TestXAES(t *testing.T) {
	tests := []struct {
		name, nonce, data, additional, want string
		key                                 byte
	}{
		{
			name: "without additional data", key: 0x01, nonce: "ABCDEFGHIJKLMNOPQRSTUVWX", data: "XAES-256-GCM",
			want: "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271",
		},
		{
			name: "with additional data", key: 0x03, nonce: "ABCDEFGHIJKLMNOPQRSTUVWX", data: "XAES-256-GCM",
			additional: "c2sp.org/XAES-256-GCM",
			want:       "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, err := newAEAD(bytes.Repeat([]byte{test.key}, keySize))
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := a.seal(nil, []byte(test.nonce), []byte(test.data), []byte(test.additional))
			if got := hex.EncodeToString(sealed); err != nil || got != test.want {
				t.Errorf("seal = %s, %v; want %s", got, err, test.want)
			}
			opened, err := a.open([]byte(test.nonce), sealed, []byte(test.additional))
			if err != nil || string(opened) != test.data {
				t.Errorf("open = %q, %v; want %q", opened, err, test.data)
			}
			sealed[0] ^= 1
			if opened, err := a.open([]byte(test.nonce), sealed, []byte(test.additional)); err == nil {
				t.Errorf("open of a changed ciphertext = %q, want an error", opened)
			}
		})
	}
}

// TestXAESAccumulated holds the cipher to the specification's vector of 10,000 random messages.
func TestXAESAccumulated(t *testing.T) {
	source, sums := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		data := make([]byte, n)
		if _, err := source.Read(data); err != nil {
			t.Fatal(err)
		}
		return data
	}
	for range 10_000 {
		key, nonce := read(keySize), read(nonceSize)
		data := read(int(read(1)[0]))
		additional := read(int(read(1)[0]))
		a, err := newAEAD(key)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := a.seal(nil, nonce, data, additional)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := a.open(nonce, sealed, additional)
		if err != nil || !bytes.Equal(opened, data) {
			t.Fatalf("open = %x, %v; want %x", opened, err, data)
		}
		if _, err := sums.Write(sealed); err != nil {
			t.Fatal(err)
		}
	}
	sum := make([]byte, 32)
	if _, err := sums.Read(sum); err != nil {
		t.Fatal(err)
	}
	if got, want := hex.EncodeToString(sum),
		"e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"; got != want {
		t.Errorf("the sum of the ciphertexts is %s, want %s", got, want)
	}
}
