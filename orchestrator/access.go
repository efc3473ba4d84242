package orchestrator

import "github.com/treatyhq/treaty/orchestrator/access"

// WithTokenVerifier believes callers with a bearer token, in the metadata key "authorization", that the verifier
// accepts: such a caller is whom the token proves, whatever its connection proves. A call with a token that it doesn't
// accept is answered UNAUTHENTICATED. Default: tokens count for nothing.
func WithTokenVerifier(verifier access.TokenVerifier) Option {
	return func(s *settings) { s.tokens = verifier }
}
