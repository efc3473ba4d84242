package orchestrator

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// children sends the commands that are sagas of this orchestrator to itself, without a network, and all others to participants. A saga
// service for which a participant is configured is another orchestrator's.
type children struct {
	engine.Dispatcher

	server    *server.Server // set before the first attempt
	telemetry *telemetry.Telemetry
	elsewhere map[string]bool // services for which a participant is configured
}

// Attempt makes one attempt.
func (c *children) Attempt(ctx context.Context, call *engine.Attempt) engine.Answer {
	if !c.here(call.Call.Method) {
		return c.Dispatcher.Attempt(ctx, call) //nolint:wrapcheck // it is no error
	}
	ctx, span := c.telemetry.StartAttempt(ctx, &telemetry.AttemptParams{
		Saga: call.Saga, Step: call.Step, Direction: call.Direction.String(), Number: call.Number, Epoch: call.Epoch,
		Method: call.Call.Method, Target: "this orchestrator", Kind: call.Kind, Undoes: call.Undoes, Anchor: call.Trace,
	})
	result := c.server.Attempt(ctx, call)
	span.End(telemetry.AttemptEnd{Outcome: result.Outcome, Code: codes.Code(uint32(result.Failure.GetCode())), Accepted: result.Pending > 0})
	return result
}

// Parked never holds back what goes to this orchestrator itself.
func (c *children) Parked(to engine.Destination, wake func()) (cancel func(), parked bool) {
	if c.here(to.Method) {
		return nil, false
	}
	return c.Dispatcher.Parked(to, wake)
}

func (c *children) here(method string) bool {
	service, _, _ := strings.Cut(method, "/")
	return !c.elsewhere[service] && c.server.Serves(method)
}
