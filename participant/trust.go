package participant

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
)

// AnyCaller is the identity of every caller, for [Believe].
const AnyCaller = "*"

// Trust says whose commands a participant believes. The zero Trust believes every caller with a verified client
// certificate, and callers on this machine. A proxy on this machine is such a caller.
type Trust struct{ identities []string }

// Believe returns the Trust that believes callers whose verified client certificate has one of the identities: a URI
// such as a SPIFFE id, a DNS name, or the subject's common name. [AnyCaller] believes everybody who can reach the
// participant, with or without a certificate. Without identities, Believe returns the zero Trust.
func Believe(identities ...string) Trust { return Trust{identities: slices.Clone(identities)} }

// believes returns whether a call's metadata counts, and who made the call.
func (t Trust) believes(ctx context.Context) (caller string, believed bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "a caller in this process", true // not a network call
	}
	certificate := verifiedCertificate(p)
	if len(t.identities) > 0 {
		return describeCaller(p, certificate), slices.Contains(t.identities, AnyCaller) ||
			certificate != nil && slices.ContainsFunc(identitiesOf(certificate), func(identity string) bool {
				return slices.Contains(t.identities, identity)
			})
	}
	return describeCaller(p, certificate), certificate != nil || isLocal(p.Addr)
}

// verifiedCertificate returns the client certificate of a caller, or nil if it has none that was verified.
func verifiedCertificate(p *peer.Peer) *x509.Certificate {
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 || len(info.State.VerifiedChains[0]) == 0 {
		return nil
	}
	return info.State.VerifiedChains[0][0]
}

func identitiesOf(certificate *x509.Certificate) []string {
	identities := slices.Clone(certificate.DNSNames)
	for _, uri := range certificate.URIs {
		identities = append(identities, uri.String())
	}
	if name := certificate.Subject.CommonName; name != "" {
		identities = append(identities, name)
	}
	return identities
}

// isLocal reports whether an address is on this machine. An address that isn't one of the network, such as that of a
// connection in memory, is.
func isLocal(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

func describeCaller(p *peer.Peer, certificate *x509.Certificate) string {
	if certificate != nil {
		return strings.Join(identitiesOf(certificate), ", ")
	}
	if host, _, err := net.SplitHostPort(fmt.Sprint(p.Addr)); err == nil {
		return host
	}
	return fmt.Sprint(p.Addr)
}

// checkCaller returns the error for a caller whose metadata doesn't count, or nil.
func (g *guard) checkCaller(ctx context.Context, method string) error {
	caller, believed := g.trust.believes(ctx)
	if believed {
		return nil
	}
	if _, warned := g.warned.LoadOrStore(caller, true); !warned {
		g.log.LogAttrs(ctx, slog.LevelWarn, "a command of a caller that isn't believed was refused: if it is an "+
			"orchestrator, configure its identity", slog.String("caller", caller), slog.String("method", method))
	}
	return incoming.Error(codes.Unauthenticated, treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_BELIEVED,
		"the call has a command's metadata, but its caller isn't an orchestrator that this participant believes", nil)
}

// CheckEpoch returns the error, UNAUTHENTICATED with the reason EPOCH_AHEAD, for an epoch that is more than a day ahead
// of the clock, or nil. The highest bits of an epoch are milliseconds since 1970. A participant must not remember such
// an epoch, since no later one could follow it. [UnaryServerInterceptor] and package inbox call it.
func CheckEpoch(epoch uint64, now time.Time) error { return incoming.CheckEpoch(epoch, now) }
