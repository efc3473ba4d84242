package dispatch

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// MetadataPending is the trailer with which a participant answers OK when it has accepted a command and completes it later, by
// SagaService.CompleteStep; the reply that comes with it says nothing. Its value is in seconds, decimal, from 1 to 86400: when neither a
// completion nor a heartbeat came for so long, the command is sent again.
const MetadataPending = "treaty-pending"

const (
	// shortestPending and longestPending bound how long a participant that has accepted a command may be silent.
	shortestPending = time.Second
	longestPending  = 24 * time.Hour

	// pendingDefault is used when what the participant said is no number of seconds. It said that it accepted; sending the command again
	// is harmless.
	pendingDefault = 30 * time.Second
)

// accepted is the result of a call whose participant completes the command later. Nothing is known of the outcome until then.
func (d *Dispatcher) accepted(ctx context.Context, call *engine.Attempt, values []string) engine.Answer {
	wait, ok := parsePending(values)
	if !ok {
		d.logger.WarnContext(ctx, "a participant accepted a command with a malformed "+MetadataPending+": want one decimal number of seconds, from 1 to 86400",
			"saga", call.Saga, "step", call.Step, "method", call.Call.Method, "taken", wait)
	}
	accepted := result(treatyv1.Outcome_OUTCOME_UNKNOWN, status.New(codes.Unknown, "the participant has accepted the command and completes it later"))
	accepted.Pending = wait
	return accepted
}

// parsePending reads the trailer. A number beyond the bounds is taken for the nearest bound; anything but one number is pendingDefault and
// not ok.
func parsePending(values []string) (wait time.Duration, ok bool) {
	if len(values) != 1 {
		return pendingDefault, false
	}
	seconds, err := strconv.ParseInt(values[0], 10, 64)
	// A number too large for its type is still a number: ParseInt returns the nearest one.
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return pendingDefault, false
	}
	seconds = min(max(seconds, int64(shortestPending/time.Second)), int64(longestPending/time.Second))
	return time.Duration(seconds) * time.Second, true
}
