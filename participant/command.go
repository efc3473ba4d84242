package participant

import (
	"context"
	"time"

	"github.com/treatyhq/treaty/internal/wire"
)

// Direction says whether a command is an action or the compensation of one.
type Direction string

// The directions.
const (
	Action       Direction = wire.Action
	Compensation Direction = wire.Compensation
)

// Command is what the orchestrator says about a call, apart from the request.
type Command struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// CommandID identifies the step, "sagas/{saga}/steps/{step}". It is the same for all attempts and in both
	// directions.
	CommandID string

	// Direction says whether the call is an action or its compensation.
	Direction Direction

	// Attempt counts the attempts that one orchestrator process has made for this step and direction, starting at 1.
	Attempt int

	// Epoch is the fencing epoch, which increases whenever another orchestrator process takes over the sagas of the
	// scope. A call with a lower epoch than an earlier one of the same scope comes from a process that was replaced. It
	// is 0 if the orchestrator sent no epoch.
	Epoch uint64

	// Scope is the scope of the epoch, "{name}/{shard}". It is empty if the orchestrator is an older one, whose epochs
	// belong to each saga on its own.
	Scope string

	// Start is when the saga started, by the orchestrator's clock, in UTC and with microseconds. It is zero if the
	// orchestrator is an older one.
	Start time.Time

	// RequestDigest identifies the action's request, in hex. It is the same for all attempts and both directions. A
	// command with another digest under the same id is another command. It is empty if the orchestrator is an older
	// one.
	RequestDigest string
}

type commandContextKey struct{}

// NewContext returns a context in which [FromContext] finds the command.
func NewContext(ctx context.Context, c Command) context.Context {
	return context.WithValue(ctx, commandContextKey{}, c)
}

// FromContext returns the command that a handler was called for. It returns false if the call was not made for a saga,
// for example if a person made it with grpcurl.
func FromContext(ctx context.Context) (Command, bool) {
	c, ok := ctx.Value(commandContextKey{}).(Command)
	return c, ok
}
