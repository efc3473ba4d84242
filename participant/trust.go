package participant

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/caller"
	"github.com/treatyhq/treaty/internal/incoming"
)

// AnyCaller is the identity of every caller, for [Believe].
const AnyCaller = caller.Any

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
	return caller.Believed(ctx, t.identities)
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
