package dispatch

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

const (
	// minPending and maxPending bound the time that a participant may give in wire.PendingKey.
	minPending = time.Second
	maxPending = 24 * time.Hour

	// defaultPending replaces a value that isn't a number of seconds. The participant has accepted the command anyway,
	// and sending it again does no harm.
	defaultPending = 30 * time.Second
)

// accepted is the answer of a participant that completes the command later. The outcome is unknown until then.
func (d *Dispatcher) accepted(ctx context.Context, call *engine.Attempt, values []string) engine.Answer {
	wait, ok := parsePending(values)
	if !ok {
		d.logger.WarnContext(ctx, "a participant accepted a command with a malformed "+wire.PendingKey+" trailer: "+
			"send one decimal number of seconds from 1 to 86400",
			"saga", call.Saga, "step", call.Step, "method", call.Call.Method, "values", values, "used", wait)
	}
	answer := unknown(status.New(codes.Unknown, "the participant has accepted the command and completes it later"))
	answer.Pending = wait
	return answer
}

// parsePending parses the trailer. A number out of bounds is replaced by the nearest bound. For anything but one
// number it returns defaultPending and false.
func parsePending(values []string) (wait time.Duration, ok bool) {
	if len(values) != 1 {
		return defaultPending, false
	}
	seconds, err := strconv.ParseInt(values[0], 10, 64)
	// For a number that is too large for its type, ParseInt returns the nearest one that isn't.
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return defaultPending, false
	}
	seconds = min(max(seconds, int64(minPending/time.Second)), int64(maxPending/time.Second))
	return time.Duration(seconds) * time.Second, true
}
