package engine

import (
	"context"
	"errors"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Causes for which a completion or a heartbeat is turned down.
var (
	// ErrNoStep says that the saga has no such step, or that it isn't being undone.
	ErrNoStep = errors.New("no such step")

	// ErrStepOver says that the step ended otherwise.
	ErrStepOver = errors.New("the step is over")
)

// Completion is the end of a command that its participant accepted.
type Completion struct {
	// Saga and Step name the command.
	Saga, Step string

	// Direction is which of the step's two commands is complete.
	Direction Direction

	// Reply is the serialized reply when it is done.
	Reply []byte

	// Refusal is the status when it was refused; nil when it is done.
	Refusal *treatyv1.Failure
}

// Complete ends a command. It returns once that is durable. Completing again in the same way changes nothing. The errors are
// journal.ErrNotFound, ErrNoStep, ErrStepOver, ErrInDoubt and ErrStopping.
func (e *Engine) Complete(_ context.Context, _ Completion) error {
	return ErrNoStep
}

// Heartbeat says that a participant still works on a command that it accepted. It isn't durable. The errors are journal.ErrNotFound, ErrNoStep,
// ErrStepOver and ErrStopping.
func (e *Engine) Heartbeat(_ context.Context, _, _ string, _ Direction) error {
	return ErrNoStep
}
