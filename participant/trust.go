package participant

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/caller"
	"github.com/treatyhq/treaty/internal/incoming"
)

// AnyCaller is the identity of every caller, for [Believe].
const AnyCaller = "*"

// Trust says whose commands a participant believes. The zero Trust believes every caller with a verified client
// certificate, and callers on this machine. A proxy on this machine is such a caller.
type Trust struct{ identities []string }

// Believe returns the Trust that believes callers whose verified client certificate has one of the identities: a URI
// such as a SPIFFE id, or a DNS name. The subject's common name counts only in a certificate that has neither.
// [AnyCaller] believes everybody who can reach the participant, with or without a certificate. Without identities,
// Believe returns the zero Trust.
func Believe(identities ...string) Trust { return Trust{identities: slices.Clone(identities)} }

// believes returns whether a call's metadata counts, and who made the call.
func (t Trust) believes(ctx context.Context) (who string, believed bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "a caller in this process", true // not a network call
	}
	certificate := caller.Certificate(p)
	if len(t.identities) > 0 {
		return describeCaller(p, certificate), slices.Contains(t.identities, AnyCaller) ||
			caller.Has(certificate, t.identities)
	}
	return describeCaller(p, certificate), certificate != nil || isLocal(p.Addr)
}

// isLocal reports whether an address is on this machine: that of a loopback interface, of a Unix socket, or of a
// connection in memory. Behind [grpc.Server.ServeHTTP], the address of a network isn't a [net.TCPAddr].
func isLocal(address net.Addr) bool {
	if address == nil {
		return false
	}
	if _, ok := address.(*net.UnixAddr); ok {
		return true
	}
	switch address.Network() {
	case "pipe", "bufconn":
		return true
	}
	at, err := netip.ParseAddrPort(address.String())
	return err == nil && at.Addr().Unmap().IsLoopback()
}

func describeCaller(p *peer.Peer, certificate *x509.Certificate) string {
	if certificate != nil {
		return cmp.Or(strings.Join(caller.Identities(certificate), ", "), certificate.Subject.String(),
			"certificate "+certificate.SerialNumber.Text(16))
	}
	if host, _, err := net.SplitHostPort(fmt.Sprint(p.Addr)); err == nil {
		return host
	}
	return fmt.Sprint(p.Addr)
}

// checkCaller returns the error for a caller whose metadata doesn't count, or nil.
func (g *guard) checkCaller(ctx context.Context, method string) error {
	who, believed := g.trust.believes(ctx)
	if believed {
		return nil
	}
	if g.warns(who) {
		g.log.LogAttrs(ctx, slog.LevelWarn, "a command of a caller that isn't believed was refused: if it is an "+
			"orchestrator, configure its identity", slog.String("caller", who), slog.String("method", method))
	}
	return incoming.Error(codes.Unauthenticated, treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_BELIEVED,
		"the call has a command's metadata, but its caller isn't an orchestrator that this participant believes", nil)
}

// maxWarnings is how many callers that aren't believed are logged, so that strangers fill neither the log nor memory.
const maxWarnings = 1000

// warns returns whether a caller that isn't believed is logged: once each.
func (g *guard) warns(who string) bool {
	if g.callers.Load() >= maxWarnings {
		return false
	}
	_, warned := g.warned.LoadOrStore(who, true)
	return !warned && g.callers.Add(1) <= maxWarnings
}

// CheckEpoch returns the error, UNAUTHENTICATED with the reason EPOCH_AHEAD, for an epoch that is more than a day ahead
// of the clock, or nil. The highest bits of an epoch are milliseconds since 1970. A participant must not remember such
// an epoch, since no later one could follow it. [UnaryServerInterceptor] and package inbox call it.
func CheckEpoch(epoch uint64, now time.Time) error { return incoming.CheckEpoch(epoch, now) }
