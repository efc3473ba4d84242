package engine

import (
	"context"
	"errors"
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// The errors of completions and heartbeats.
var (
	// ErrStepNotFound says that the saga has no such step, or that the step isn't being compensated.
	ErrStepNotFound = machine.ErrStepNotFound

	// ErrStepEnded says that the step ended in another way, or no longer waits for a completion.
	ErrStepEnded = machine.ErrStepEnded

	// ErrNotAccepted says that a person completes a command that its participant isn't known to have accepted, and
	// doesn't force that.
	ErrNotAccepted = errors.New("the participant isn't known to have accepted the command")
)

// Completion is the end of a command that its participant had accepted.
type Completion struct {
	// Saga and Step identify the command: the saga's id and the step's path.
	Saga, Step string

	// Direction says whether the action or the compensation is complete.
	Direction Direction

	// Reply is the serialized reply when the command is done.
	Reply []byte

	// Refusal is the status when the command was refused; nil when it is done.
	Refusal *treatyv1.Failure

	// Settled says that the participant has stored the refusal and answers every other attempt with it. Otherwise
	// another attempt may have been executed.
	Settled bool

	// Principal is the id of the principal that completes the command.
	Principal string

	// Decision is that of the person who completes the command on its participant's behalf, or nil.
	Decision *treatyv1.Decision

	// Etag is what that person saw. If it is empty, the saga may have changed.
	Etag string

	// Force lets that person complete a command that its participant isn't known to have accepted.
	Force bool
}

func (c Completion) input() machine.CommandCompleted {
	in := machine.CommandCompleted{
		Step: c.Step, Direction: c.Direction, Outcome: machine.Done, Reply: nonNil(c.Reply), Decision: c.Decision,
		Principal: c.Principal, Etag: c.Etag,
	}
	if c.Refusal != nil {
		in.Outcome, in.Reply, in.Failure, in.MayHaveRun = machine.Refused, nil, c.Refusal, !c.Settled
	}
	return in
}

// Complete ends a command. It returns once that is durable. Completing again in the same way changes nothing. The
// errors are journal.ErrNotFound, ErrStepNotFound, machine.ErrChanged, ErrStepEnded, ErrNotAccepted, ErrNotAsked,
// ErrInDoubt and ErrStopping.
func (e *Engine) Complete(ctx context.Context, completion Completion) error {
	if err := e.checkAccepted(ctx, &completion); err != nil {
		return err
	}
	if err := e.settleCompletion(ctx, &completion); err != nil {
		return err
	}
	return e.ask(ctx, completion.Saga, completion.input())
}

// checkAccepted returns ErrNotAccepted if a person completes an outstanding command that was never accepted as far as
// is known here. Whether it was isn't journaled: after a restart, it is known once the command was sent again.
func (e *Engine) checkAccepted(ctx context.Context, completion *Completion) error {
	if completion.Decision == nil || completion.Force {
		return nil
	}
	if inst := e.register.find(completion.Saga); inst != nil &&
		inst.wasAccepted(deliveryKey{completion.Step, completion.Direction}) {
		return nil
	}
	q, err := e.inquire(ctx, completion.Saga, completion.Step)
	switch {
	case errors.Is(err, journal.ErrNotFound) || errors.Is(err, ErrStepNotFound):
		return nil // the saga's turn says so
	case err != nil:
		return err
	case !inFlight(q.step, completion.Direction) || !q.saga.Matches(completion.Etag):
		return nil // likewise
	}
	suspension := q.saga.Suspension
	if suspension.GetStep() == completion.Step &&
		suspension.GetReason() == treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING {
		return nil
	}
	method := q.step.Scheduled.GetMethod()
	if completion.Direction == Compensation {
		method = q.step.Scheduled.GetCompensation().GetMethod()
	}
	return fmt.Errorf("%w %s of step %s, so it may still execute it", ErrNotAccepted, method, completion.Step)
}

// CompleteUnattended is Complete for a caller that doesn't wait for the result. It returns at once, and applies the
// completions one after the other. They aren't lost while the store fails, but are when the engine is stopping.
func (e *Engine) CompleteUnattended(completions ...Completion) {
	e.work.spawn(func() {
		for _, completion := range completions {
			e.driver.deliver(completion.Saga, completion.input())
		}
	})
}

// Heartbeat says that a participant still works on a command that it accepted. It isn't durable. The errors are
// journal.ErrNotFound, ErrStepNotFound, ErrStepEnded and ErrStopping.
func (e *Engine) Heartbeat(ctx context.Context, saga, step string, direction Direction) error {
	if !e.work.Enter() {
		return ErrStopping
	}
	defer e.work.Leave()
	if err := e.gate.err(); err != nil {
		return err
	}
	inst := e.register.find(saga)
	if inst != nil && e.driver.sender.postpone(inst, deliveryKey{step, direction}) {
		return nil
	}
	read, err := e.loader.read(ctx, saga)
	if err != nil {
		return err
	}
	found := read.Step(step)
	switch {
	case found == nil:
		return fmt.Errorf("%w: %s", ErrStepNotFound, step)
	case inFlight(found, direction):
		return nil
	case direction == Compensation && found.CompensationScheduleTime.IsZero():
		return fmt.Errorf("%w: step %s isn't being compensated", ErrStepNotFound, step)
	default:
		return fmt.Errorf("%w: step %s", ErrStepEnded, step)
	}
}
