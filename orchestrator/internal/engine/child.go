package engine

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// CompensateChild compensates a saga for its parent, even if it has succeeded. It returns once the saga is compensated.
// A saga that was never started is recorded as compensated, so that a start that arrives later is refused. params are
// those of its start; its SagaID must be set. The errors are machine.ErrPastPivot, machine.ErrPivotInFlight,
// ErrOtherRequest, ErrLost, ErrInDoubt, ErrStopping and ctx's. Once the decision is durable, the saga is compensated
// whether or not the caller waits.
func (e *Engine) CompensateChild(ctx context.Context, params StartParams) error {
	compensated, err := e.BeginCompensateChild(ctx, params)
	if err != nil || compensated {
		return err
	}
	_, err = e.Await(ctx, params.SagaID)
	return err
}

// BeginCompensateChild is CompensateChild without the wait: it returns once the decision is durable, and whether the
// saga is compensated already.
func (e *Engine) BeginCompensateChild(ctx context.Context, params StartParams) (compensated bool, err error) {
	if err = e.checkDigest(ctx, params); err == nil {
		err = e.ask(ctx, params.SagaID, machine.CompensateForParent{})
	}
	if errors.Is(err, journal.ErrNotFound) {
		if _, err = e.closeChild(ctx, params); err == nil {
			err = e.ask(ctx, params.SagaID, machine.CompensateForParent{}) // in case it was started in between
		}
	}
	if err != nil {
		return false, err
	}
	row, err := e.config.Store.Get(ctx, params.SagaID)
	if err != nil {
		return false, fmt.Errorf("compensating saga %s: %w", params.SagaID, err)
	}
	return row.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED, nil
}

// checkDigest returns ErrOtherRequest if a child was started by a command with another digest than that of the action
// that its parent undoes, and journal.ErrNotFound if there is no such child.
func (e *Engine) checkDigest(ctx context.Context, params StartParams) error {
	asked := params.Parent.GetRequestDigest()
	if asked == "" {
		return nil
	}
	saga, err := e.loader.read(ctx, params.SagaID)
	if err != nil {
		return err
	}
	if known := saga.Started.GetParent().GetRequestDigest(); known != "" && known != asked {
		return otherRequest(saga)
	}
	return nil
}

// CloseChild returns what became of a child saga. A saga that was never started is recorded as compensated, so that a
// start that arrives later is refused. params are those of its start; its SagaID must be set. The request may be
// missing if the parent is Closed. The errors are ErrOtherRequest, ErrPurged, ErrLost, ErrInDoubt, ErrStopping and
// ctx's.
func (e *Engine) CloseChild(ctx context.Context, params StartParams) (Closed, error) {
	handle, err := e.closeChild(ctx, params)
	if err != nil {
		return Closed{}, err
	}
	if !handle.Existing {
		return Closed{Verdict: ClosedNow}, nil
	}
	saga, err := e.loader.read(ctx, params.SagaID)
	if err != nil {
		return Closed{}, err
	}
	return closedChild(saga), nil
}

// closeChild records a child saga as compensated unless it exists. A child that was lost with the store is started
// again, so that it catches up, if its parent was in the same store, so that it is the same child. Of another parent's
// child, closeChild returns ErrLost, until a person has decided. So it does of a child that isn't known although its
// parent has its reply.
func (e *Engine) closeChild(ctx context.Context, params StartParams) (*Handle, error) {
	if params.Executed && !params.Parent.GetLocal() && e.lost.parentCommand(params.SagaID) == nil {
		if err := e.loseChild(ctx, params); err != nil {
			return nil, err
		}
	}
	handle, err := e.start(ctx, params, startCompensated)
	if errors.Is(err, ErrLost) && params.Parent.GetLocal() {
		if handle, err = e.start(ctx, params, startNormally); err == nil {
			handle.Existing = true
		}
	}
	return handle, err
}

func closedChild(saga *machine.Saga) Closed {
	switch {
	case saga.Started.GetParent().GetClosed():
		return Closed{Verdict: ClosedNow}
	case saga.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
		return Closed{Verdict: WasExecuted, Reply: nonNil(saga.Reply)}
	case saga.CompensationDecided.GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT:
		return Closed{Verdict: WasCompensated, Failure: saga.CompensationDecided.GetFailure()}
	case saga.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED:
		return Closed{Verdict: WasRefused, Failure: saga.CompensationDecided.GetFailure()}
	default:
		return Closed{Verdict: WasAccepted}
	}
}

// KnownChild returns what became of a child saga, without changing anything. The errors are ErrOtherRequest and those
// of the store. A child that doesn't exist is NeverSeen.
func (e *Engine) KnownChild(ctx context.Context, params StartParams) (Known, error) {
	saga, err := e.loader.read(ctx, params.SagaID)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return Known{Verdict: NeverSeen}, nil
	case err != nil:
		return Known{}, err
	case !e.sameRequest(params, saga):
		return Known{}, otherRequest(saga)
	}
	return Known{Verdict: closedChild(saga).Verdict, Method: params.Definition}, nil
}

// ChildCommands returns what is known about the commands of another orchestrator that have started a child and
// compensated it. The errors are those of the store.
func (e *Engine) ChildCommands(ctx context.Context, id string) ([]*treatyv1.KnownCommand, error) {
	saga, err := e.loader.read(ctx, id)
	if err != nil {
		return nil, err
	}
	parent := saga.Started.GetParent()
	command := func(
		direction treatyv1.StepDirection, method string, verdict treatyv1.CommandVerdict,
	) *treatyv1.KnownCommand {
		return &treatyv1.KnownCommand{
			CommandId: parent.GetCommandId(), Direction: direction, Method: method, Verdict: verdict,
			RequestDigest: parent.GetRequestDigest(), SagaStart: parent.GetSagaStart(),
			UpdateTime: timestamppb.New(saga.UpdateTime),
		}
	}
	var commands []*treatyv1.KnownCommand
	if verdict := actionVerdict(saga); verdict != treatyv1.CommandVerdict_COMMAND_VERDICT_UNSPECIFIED {
		commands = append(commands,
			command(treatyv1.StepDirection_STEP_DIRECTION_ACTION, saga.Started.GetDefinition(), verdict))
	}
	definition, known := e.config.Catalog.SagaDefinition(saga.Started.GetDefinition())
	if known && definition.Compensation != nil && undoneByParent(saga) {
		commands = append(commands, command(
			treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION, definition.Compensation.Method, undoVerdict(saga)))
	}
	return commands, nil
}

// undoneByParent returns whether the saga's parent has compensated it.
func undoneByParent(saga *machine.Saga) bool {
	return !saga.Started.GetParent().GetClosed() &&
		saga.CompensationDecided.GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT
}

// neverRan returns whether the saga's parent has compensated it before it had an effect.
func neverRan(saga *machine.Saga) bool {
	return undoneByParent(saga) && !saga.HasSucceeded && len(saga.Steps) == 0
}

// actionVerdict returns what became of the command that started a child, or nothing if it had no effect.
func actionVerdict(saga *machine.Saga) treatyv1.CommandVerdict {
	switch {
	case saga.Started.GetParent().GetClosed():
		return treatyv1.CommandVerdict_COMMAND_VERDICT_CLOSED
	case neverRan(saga):
		return treatyv1.CommandVerdict_COMMAND_VERDICT_UNSPECIFIED
	case saga.HasSucceeded:
		return treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED
	case saga.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED && !undoneByParent(saga):
		return treatyv1.CommandVerdict_COMMAND_VERDICT_REFUSED
	default:
		return treatyv1.CommandVerdict_COMMAND_VERDICT_ACCEPTED
	}
}

// undoVerdict returns what became of the command that compensated a child.
func undoVerdict(saga *machine.Saga) treatyv1.CommandVerdict {
	switch {
	case neverRan(saga):
		return treatyv1.CommandVerdict_COMMAND_VERDICT_NULL_COMPENSATED
	case saga.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED:
		return treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED
	default:
		return treatyv1.CommandVerdict_COMMAND_VERDICT_ACCEPTED
	}
}
