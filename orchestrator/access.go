package orchestrator

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/treatyhq/treaty/orchestrator/access"
)

// WithTokenVerifier believes callers with a bearer token, in the metadata key "authorization", that the verifier
// accepts: such a caller is whom the token proves, whatever its connection proves. A call with a token that it doesn't
// accept is answered UNAUTHENTICATED. Default: tokens count for nothing.
func WithTokenVerifier(verifier access.TokenVerifier) Option {
	return func(s *settings) { s.tokens = verifier }
}

// WithAuthorizer lets an authorizer decide who may do what: each call of the API is asked for, and open streams again
// when what is allowed changes. Callers over plaintext on loopback are anonymous then. Default: on loopback, everybody
// may do everything; elsewhere, the orchestrator refuses to serve, unless WithOpenAccess says that everybody may.
func WithAuthorizer(authorizer access.Authorizer) Option {
	return func(s *settings) { s.authorizer = authorizer }
}

// WithAuditLogger writes who did what to a logger: each call that changes something, and each one that was refused,
// with the principal, the action, what it was about, and why it was refused; refused tokens and TLS handshakes, too.
// What strangers can cause is limited per second, and what was left out is counted. There are no payloads. Default:
// none.
func WithAuditLogger(logger *slog.Logger) Option { return func(s *settings) { s.audit = logger } }

// WithOpenAccess lets everybody who can connect do everything, also on an address that other machines can reach: with
// WithClientCA, everybody with a certificate of it. The rules that need no authorizer hold all the same, such as
// WithParticipantIdentity. It can't be combined with WithAuthorizer or WithPolicyFile.
func WithOpenAccess() Option { return func(s *settings) { s.open = true } }

// checkAuthorizer refuses options that contradict each other.
func (s *settings) checkAuthorizer() error {
	switch {
	case s.open && (s.authorizer != nil || s.policyFile != ""):
		return errors.New("access is open to everybody (open-access), and there are rules that say who may do what: " +
			"leave out one of the two")
	case s.authorizer != nil && s.policyFile != "":
		return errors.New("there are an authorizer and a policy file, and only one of them can decide: leave out one " +
			"of the two")
	}
	return nil
}

// provable returns whether callers can prove to have one of the identities: by certificates or tokens, or as users of
// this machine.
func (s *settings) provable(identities []string) bool {
	return s.tlsClientCA != "" || s.tokens != nil || !slices.ContainsFunc(identities, func(identity string) bool {
		return !strings.HasPrefix(identity, "local:")
	})
}

// checkAccess refuses to serve on an address that other machines can reach if nothing says who may do what.
func (s *settings) checkAccess(listener net.Listener) error {
	if s.authorizer != nil || s.open || s.anybody() || local(listener.Addr()) {
		return nil
	}
	return fmt.Errorf("serving on %s: other machines can reach it, and nothing says who may do what: set a "+
		"policy or an authorizer, listen on 127.0.0.1, or let every caller do everything (open-access)",
		listener.Addr())
}

// exposed returns whether other machines can reach the API, and callers can prove who they are.
func (s *settings) exposed(listener net.Listener) bool {
	return !s.anybody() && !local(listener.Addr())
}

// anybody returns whether callers can't prove who they are, since plaintext is allowed beyond loopback.
func (s *settings) anybody() bool { return s.insecure && s.tlsCert == "" }

// warnAboutOpenAccess logs that everybody may do everything.
func (s *settings) warnAboutOpenAccess(logger *slog.Logger, listener net.Listener) {
	if s.authorizer == nil && !local(listener.Addr()) {
		logger.Warn("everybody who can connect may start, read, cancel and resume sagas, publish events and read "+
			"them: set a policy to say who may do what", "address", listener.Addr().String())
	}
}
