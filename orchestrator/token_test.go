package orchestrator_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/access"
)

// keySet has one public key, of RFC 8037.
const keySet = `{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`

// noTokens verifies nothing.
type noTokens struct{}

func (noTokens) Verify(context.Context, string) (access.Principal, error) {
	return access.Principal{}, errors.New("no token counts")
}

// TestTokenOptions makes orchestrators that believe tokens, and those of which it isn't clear whose.
func TestTokenOptions(t *testing.T) {
	keys := testkit.WriteFile(t, t.TempDir(), "keys.json", []byte(keySet))
	secret := testkit.WriteFile(t, t.TempDir(), "secret.json", []byte(`{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}`))
	const issuer = "https://id.acme.example"
	for name, test := range map[string]struct {
		options []orchestrator.Option
		want    string // part of the error; empty for none
	}{
		"discovery": {[]orchestrator.Option{
			orchestrator.WithTokenIssuer(orchestrator.TokenIssuer{URL: issuer}),
			orchestrator.WithTokenAudience("treaty"),
		}, ""},
		"a file": {[]orchestrator.Option{
			orchestrator.WithTokenIssuer(orchestrator.TokenIssuer{URL: issuer, KeysFile: keys}),
			orchestrator.WithTokenAudience("treaty"),
		}, ""},
		"several issuers and audiences": {[]orchestrator.Option{
			orchestrator.WithTokenIssuer(orchestrator.TokenIssuer{URL: issuer}),
			orchestrator.WithTokenIssuer(orchestrator.TokenIssuer{URL: "shop", KeysFile: keys}),
			orchestrator.WithTokenAudience("treaty"), orchestrator.WithTokenAudience("treaty-eu"),
		}, ""},
		"no audience": {[]orchestrator.Option{
			orchestrator.WithTokenIssuer(orchestrator.TokenIssuer{URL: issuer}),
		}, "no audience"},
		"no issuer": {[]orchestrator.Option{orchestrator.WithTokenAudience("treaty")}, "no issuer"},
		"plaintext": {[]orchestrator.Option{
			orchestrator.WithTokenIssuer(orchestrator.TokenIssuer{URL: "http://id.acme.example"}),
			orchestrator.WithTokenAudience("treaty"),
		}, "https://"},
		"a verifier, too": {[]orchestrator.Option{
			orchestrator.WithTokenIssuer(orchestrator.TokenIssuer{URL: issuer}),
			orchestrator.WithTokenAudience("treaty"), orchestrator.WithTokenVerifier(noTokens{}),
		}, "leave out one of the two"},
		"a shared secret": {[]orchestrator.Option{
			orchestrator.WithTokenIssuer(orchestrator.TokenIssuer{URL: issuer, KeysFile: secret}),
			orchestrator.WithTokenAudience("treaty"),
		}, "no public key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := orchestrator.New(append(test.options, orchestrator.WithLogger(testkit.Logger(t)))...)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
