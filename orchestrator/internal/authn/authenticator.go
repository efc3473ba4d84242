package authn

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/treatyhq/treaty/orchestrator/access"
)

const (
	// tokenKey is the metadata key of a bearer token.
	tokenKey = "authorization"

	// scheme precedes the token.
	scheme = "bearer "

	// maxKnown limits the certificates whose principals are remembered.
	maxKnown = 1024
)

// ErrToken says that a call has a token that proves nothing.
var ErrToken = errors.New("the bearer token isn't valid")

// Params configure an Authenticator.
type Params struct {
	// Tokens verifies bearer tokens. Without it, the tokens of calls count for nothing.
	Tokens access.TokenVerifier

	// TrustLoopback says that a plaintext connection over loopback proves that its caller is on this machine. Behind a
	// proxy on this machine, everybody is.
	TrustLoopback bool
}

// Authenticator finds out who makes calls. Its methods are safe for concurrent use.
type Authenticator struct {
	params Params

	local, anonymous *access.Principal

	mu    sync.RWMutex
	known map[chain]*access.Principal
}

// chain is a verified chain of certificates, by its ends. Connections with the same certificate share them.
type chain struct{ leaf, root *x509.Certificate }

// New returns an Authenticator.
func New(params Params) *Authenticator {
	return &Authenticator{
		params: params,
		local:  &access.Principal{Kind: access.Local}, anonymous: &access.Principal{Kind: access.Anonymous},
		known: make(map[chain]*access.Principal),
	}
}

// Authenticate returns who makes a call. A token takes precedence over what the connection proves. The error is
// ErrToken if the call has one that isn't valid. The caller must not change the principal.
func (a *Authenticator) Authenticate(ctx context.Context) (*access.Principal, error) {
	if a.params.Tokens != nil {
		if given := metadata.ValueFromIncomingContext(ctx, tokenKey); len(given) > 0 {
			return a.ofToken(ctx, given)
		}
	}
	p, ok := peer.FromContext(ctx)
	if !ok {
		return a.local, nil // not a network call
	}
	switch info := p.AuthInfo.(type) {
	case credentials.TLSInfo:
		return a.ofTLS(info), nil
	case User:
		if info.Known {
			user := access.OfUser(info.UID)
			return &user, nil
		}
		return a.local, nil
	}
	if a.params.TrustLoopback && isLocal(p.Addr) {
		return a.local, nil
	}
	return a.anonymous, nil
}

func (a *Authenticator) ofToken(ctx context.Context, given []string) (*access.Principal, error) {
	switch {
	case len(given) > 1:
		return nil, fmt.Errorf("%w: the call has %d of them", ErrToken, len(given))
	case len(given[0]) <= len(scheme) || !strings.EqualFold(given[0][:len(scheme)], scheme):
		return nil, fmt.Errorf("%w: %s isn't \"Bearer TOKEN\"", ErrToken, tokenKey)
	}
	principal, err := a.params.Tokens.Verify(ctx, strings.TrimSpace(given[0][len(scheme):]))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrToken, err)
	case principal.Kind == "" || principal.Kind == access.Anonymous:
		return nil, fmt.Errorf("%w: it names nobody", ErrToken)
	}
	return &principal, nil
}

func (a *Authenticator) ofTLS(info credentials.TLSInfo) *access.Principal {
	chains := info.State.VerifiedChains
	if len(chains) == 0 || len(chains[0]) == 0 {
		return a.anonymous
	}
	key := chain{chains[0][0], chains[0][len(chains[0])-1]}
	a.mu.RLock()
	known := a.known[key]
	a.mu.RUnlock()
	if known != nil {
		return known
	}
	principal := access.OfCertificate(chains[0])
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnown {
		clear(a.known)
	}
	a.known[key] = &principal
	return &principal
}

// isLocal returns whether an address is on this machine: that of a loopback interface, or of a connection in memory.
func isLocal(address net.Addr) bool {
	if address == nil {
		return false
	}
	if tcp, is := address.(*net.TCPAddr); is {
		return tcp.IP.IsLoopback() // the usual case, without a text
	}
	switch address.Network() {
	case "unix", "pipe", "bufconn":
		return true
	}
	at, err := netip.ParseAddrPort(address.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}
