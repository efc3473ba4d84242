package orchestrator

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/treatyhq/treaty/orchestrator/internal/token"
)

// TokenIssuer is whose tokens are believed.
type TokenIssuer struct {
	// URL is the claim iss of the issuer's tokens. Unless KeysFile is set, its keys are found by OpenID Connect
	// discovery there, over https, or over http on this machine.
	URL string

	// KeysFile is a file with the issuer's public keys, a JSON web key set. It is read again when it changes.
	KeysFile string
}

// tokenSettings are what the options about tokens set.
type tokenSettings struct {
	issuers   []token.Issuer
	audiences []string
	keysFile  string // of the only issuer
}

// WithTokenIssuer believes the JSON web tokens of an issuer: a caller with a valid token is the principal that it
// names. It can be used for several issuers. It requires WithTokenAudience, and can't be
// combined with WithTokenVerifier. Default: tokens count for nothing.
func WithTokenIssuer(issuer TokenIssuer) Option {
	return func(s *settings) { s.token.issuers = append(s.token.issuers, token.Issuer(issuer)) }
}

// WithTokenAudience sets for whom the tokens of WithTokenIssuer are made: a token counts only if its claim aud has an
// audience of this orchestrator. It can be used for several audiences.
func WithTokenAudience(audience string) Option {
	return func(s *settings) { s.token.audiences = append(s.token.audiences, audience) }
}

// useTokens lets tokens say who a caller is, if an issuer is believed.
func (o *Orchestrator) useTokens() error {
	s := &o.settings.token
	issuers := s.issuers
	switch {
	case s.keysFile != "" && len(issuers) != 1:
		return fmt.Errorf("tokens: the keys in %s belong to one issuer, and there are %d: name one", s.keysFile,
			len(issuers))
	case s.keysFile != "":
		issuers = []token.Issuer{{URL: issuers[0].URL, KeysFile: s.keysFile}}
	case len(issuers) == 0 && len(s.audiences) > 0:
		return errors.New("tokens: there is an audience, and no issuer whose tokens are believed: name one")
	case len(issuers) == 0:
		return nil
	}
	if o.settings.tokens != nil {
		return errors.New("tokens: there are issuers and a verifier: leave out one of the two")
	}
	verifier, err := token.New(token.Params{Issuers: issuers, Audiences: s.audiences, Logger: o.logger})
	if err == nil {
		o.settings.tokens = verifier
	}
	return err
}

// tokenFlags are the flags about tokens.
type tokenFlags struct {
	issuers, audiences tokenFlag
	keysFile           string
}

func (f *tokenFlags) register(set *pflag.FlagSet) {
	set.Var(&f.issuers, "token-issuer",
		"believe the JSON web tokens of the issuer with this `URL`, whose keys are found by OpenID Connect discovery; "+
			"requires --token-audience; repeat the flag for more issuers")
	set.Var(&f.audiences, "token-audience",
		"the `NAME` of this orchestrator in the audience of tokens; repeat the flag for more names")
	set.StringVar(&f.keysFile, "token-keys", "",
		"the keys of the only --token-issuer, a JSON web key set in this `FILE`, which is read again when it changes; "+
			"by default they are found by discovery")
}

// option sets what the flags say.
func (f *tokenFlags) option() Option {
	return func(s *settings) {
		for _, url := range f.issuers {
			s.token.issuers = append(s.token.issuers, token.Issuer{URL: url})
		}
		s.token.audiences = append(s.token.audiences, f.audiences...)
		s.token.keysFile = f.keysFile
	}
}

// tokenFlag collects names.
type tokenFlag []string

// String returns nothing: help shows no default.
func (f *tokenFlag) String() string { return "" }

// Type returns the name of the type.
func (f *tokenFlag) Type() string { return "name" }

// Set adds one name.
func (f *tokenFlag) Set(name string) error {
	*f = append(*f, strings.TrimSpace(name))
	return nil
}
