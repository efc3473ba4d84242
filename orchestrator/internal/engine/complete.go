package engine

import (
	"context"
	"fmt"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Causes for which a completion or a heartbeat is turned down.
var (
	// ErrStepNotFound says that the saga has no such step, or that it isn't being undone.
	ErrStepNotFound = machine.ErrStepNotFound

	// ErrStepEnded says that the step ended otherwise, or that nobody waits for it any more.
	ErrStepEnded = machine.ErrStepEnded
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

func (c Completion) input() machine.CommandCompleted {
	in := machine.CommandCompleted{Step: c.Step, Direction: c.Direction, Outcome: machine.Done, Reply: nonNil(c.Reply)}
	if c.Refusal != nil {
		in.Outcome, in.Reply, in.Failure = machine.Refused, nil, c.Refusal
	}
	return in
}

// Complete ends a command. It returns once that is durable. Completing again in the same way changes nothing. The errors are
// journal.ErrNotFound, ErrNoStep, ErrStepOver, ErrInDoubt and ErrStopping.
func (e *Engine) Complete(ctx context.Context, completion Completion) error {
	return e.ask(ctx, completion.Saga, completion.input())
}

// completed drops the flight of a command that was completed from outside. The caller holds the lock of the instance and takes its tasks.
func (i *instance) completed(in machine.CommandCompleted) {
	key := flightKey{in.Step, in.Direction}
	f := i.flights[key]
	if f == nil {
		return
	}
	if step := i.machine.Saga().Step(in.Step); step != nil && underWay(step, in.Direction) {
		return // it was turned down
	}
	f.ground()
	f.settled = true
	delete(i.flights, key)
}

// underWay says whether a step's command has no end yet.
func underWay(step *machine.Step, direction Direction) bool {
	if direction == Compensation {
		return step.State == treatyv1.StepState_STEP_STATE_COMPENSATING
	}
	return step.State == treatyv1.StepState_STEP_STATE_SCHEDULED
}

// Heartbeat says that a participant still works on a command that it accepted. It isn't durable. The errors are journal.ErrNotFound, ErrNoStep,
// ErrStepOver and ErrStopping.
func (e *Engine) Heartbeat(ctx context.Context, saga, step string, direction Direction) error {
	if !e.enter() {
		return ErrStopping
	}
	defer e.leave()
	e.mu.Lock()
	inst := e.sagas[saga]
	e.mu.Unlock()
	if inst != nil && e.heard(inst, flightKey{step, direction}) {
		return nil
	}
	read, err := e.read(ctx, saga)
	if err != nil {
		return err
	}
	found := read.Step(step)
	switch {
	case found == nil:
		return fmt.Errorf("%w: %s", ErrStepNotFound, step)
	case underWay(found, direction):
		return nil
	case direction == Compensation && found.CompensationScheduleTime.IsZero():
		return fmt.Errorf("%w: step %s isn't being undone", ErrStepNotFound, step)
	default:
		return fmt.Errorf("%w: step %s", ErrStepEnded, step)
	}
}

// heard puts off the next attempt of a command that its participant still works on.
func (e *Engine) heard(inst *instance, key flightKey) bool {
	inst.mu.Lock()
	defer inst.mu.Unlock()
	f := inst.flights[key]
	if inst.gone || f == nil || f.settled || f.abandoned {
		return false
	}
	if f.waiting && f.accepted {
		f.stop()
		e.pend(f)
	}
	return true
}

// pend lets a command that was accepted wait for its completion. The caller holds the lock.
func (e *Engine) pend(f *flight) {
	now := e.config.Clock.Now()
	wait := f.patience
	if !f.completeBy.IsZero() {
		wait = min(wait, max(f.completeBy.Sub(now), 0))
	}
	if !f.waiting {
		f.pausedAt = now
	}
	f.waiting, f.accepted, f.dormant, f.next = true, true, true, now.Add(wait)
	stop := e.config.Clock.AfterFunc(wait, func() { e.awaken(f) })
	f.stop = func() { stop() }
	e.restIfIdle(f.inst)
}

// tellParent tells the parent, if it runs here, that its child has ended.
func (e *Engine) tellParent(saga *machine.Saga) {
	parent := saga.Started.GetParent()
	if !parent.GetLocal() {
		return
	}
	id, step, ok := ParseCommandID(parent.GetCommandId())
	if !ok {
		return
	}
	completion := Completion{Saga: id, Step: step, Direction: Action}
	undone := false
	switch {
	case saga.Decided.GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT:
		completion.Direction = Compensation
	case saga.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
		completion.Reply = saga.Reply
	default:
		completion.Refusal, undone = RefusalOf(saga.Decided.GetFailure()), true
	}
	// On a goroutine of its own: the parent may go on at once with a long command.
	go func() {
		e.background(id, completion.input())
		if undone {
			// The parent may have turned around while its child was undone for a reason of its own.
			e.background(id, Completion{Saga: id, Step: step, Direction: Compensation}.input())
		}
	}()
}

// ParseCommandID splits "sagas/{saga}/steps/{step}".
func ParseCommandID(commandID string) (saga, step string, ok bool) {
	rest, found := strings.CutPrefix(commandID, "sagas/")
	if !found {
		return "", "", false
	}
	saga, step, found = strings.Cut(rest, "/steps/")
	return saga, step, found && saga != "" && step != "" && !strings.Contains(step, "/")
}
