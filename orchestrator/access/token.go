package access

import "context"

// TokenVerifier verifies the bearer tokens of callers. Its methods are called concurrently, once per call that has a
// token.
type TokenVerifier interface {
	// Verify returns the principal that a token proves. The error says for the log why the token proves nothing; the
	// caller isn't told. It must not contain the token.
	Verify(ctx context.Context, token string) (Principal, error)
}

type principalKey struct{}

// NewContext returns a context whose PrincipalOf is the principal, which must not be changed afterwards. The
// orchestrator's API calls it for each call, before the chained interceptors of orchestrator.WithServerOptions run.
func NewContext(ctx context.Context, principal *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, principal)
}

// PrincipalOf returns who makes the call of a context of the orchestrator's API. It is anonymous in other contexts.
func PrincipalOf(ctx context.Context) Principal {
	if principal, ok := ctx.Value(principalKey{}).(*Principal); ok && principal != nil {
		return *principal
	}
	return Principal{Kind: Anonymous}
}
