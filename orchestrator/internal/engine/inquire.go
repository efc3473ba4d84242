package engine

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// inquiry asks a participant what became of a step's action, before a decision about the step is recorded.
type inquiry struct {
	engine *Engine
	saga   *machine.Saga
	step   *machine.Step
}

// inquire returns the inquiry about a step of a stored saga. The errors are journal.ErrNotFound and ErrStepNotFound.
func (e *Engine) inquire(ctx context.Context, id, path string) (*inquiry, error) {
	saga, err := e.loader.read(ctx, id)
	if err != nil {
		return nil, err
	}
	step := saga.Step(path)
	if step == nil {
		return nil, fmt.Errorf("%w: %s", ErrStepNotFound, path)
	}
	return &inquiry{engine: e, saga: saga, step: step}, nil
}

func (q *inquiry) attempt() *Attempt {
	effect := machine.Effect{Step: q.step, Direction: Action}
	return &Attempt{
		Saga: wire.SagaName(q.saga.ID), Step: q.step.Path(), Direction: Action, Number: int(q.step.Attempts),
		Scope: q.engine.config.Scope, Epoch: q.engine.config.Store.Epoch(),
		Call:        q.engine.driver.sender.callConfig(effect),
		Participant: q.step.Scheduled.GetParticipant(), Kind: q.step.Scheduled.GetKind(),
		Request: requestOf(effect), Digest: digestOf(q.step), SagaStart: q.saga.CreateTime,
		Trace: q.saga.Started.GetTrace(),
	}
}

// decisive returns whether the saga can't go on in any direction while the outcome of the step is unknown.
func (q *inquiry) decisive() bool {
	switch q.step.Scheduled.GetKind() {
	case treatyv1.CommandKind_COMMAND_KIND_PIVOT, treatyv1.CommandKind_COMMAND_KIND_RETRIABLE:
		return true
	default:
		return false
	}
}

// checkDecision asks the participant before a person's decision about a stuck action is recorded, and completes the
// decision. It returns machine.ErrDecisionUnfit when the participant says the opposite, and ErrNotAsked when it can't
// be asked now.
func (e *Engine) checkDecision(ctx context.Context, id string, params *ResumeParams) error {
	switch params.Action {
	case machine.MarkDone, machine.MarkRefused, machine.TakeOver:
	default:
		return nil
	}
	saga, err := e.loader.read(ctx, id)
	if err != nil {
		return err
	}
	if err := saga.CheckEtag(params.Etag); err != nil {
		return err // before the participant closes the command
	}
	step := saga.Step(saga.Suspension.GetStep())
	if step == nil || step.State != treatyv1.StepState_STEP_STATE_SCHEDULED {
		return nil // the machine rejects a decision that doesn't fit
	}
	q := &inquiry{engine: e, saga: saga, step: step}
	if saga.Suspension.GetReason() == treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST {
		if params.Action == machine.TakeOver {
			return q.takeOver(ctx, params)
		}
		return nil // what the participant knows is another request
	}
	switch params.Action {
	case machine.MarkRefused:
		return q.checkMarkRefused(ctx)
	case machine.MarkDone:
		return q.checkMarkDone(ctx)
	default:
		return nil
	}
}

// checkMarkRefused makes sure that an action that a person marks as refused isn't executed later.
func (q *inquiry) checkMarkRefused(ctx context.Context) error {
	closed := q.closeCommand(ctx, q.attempt())
	switch {
	case closed.Verdict == WasExecuted:
		return fmt.Errorf("%w: the participant says that step %s was executed; retry it, or mark it done",
			machine.ErrDecisionUnfit, q.step.Path())
	case closed.Verdict == WasAccepted:
		return fmt.Errorf("%w: the participant has accepted step %s and may still complete it; "+
			"wait for it, or have it refused there", machine.ErrDecisionUnfit, q.step.Path())
	case closed.Verdict == NotAnswered && closed.Halt != HaltPurged:
		return q.notAsked(closed.Failure)
	}
	return nil
}

// checkMarkDone makes sure that the participant doesn't say that an action was refused.
func (q *inquiry) checkMarkDone(ctx context.Context) error {
	known := q.engine.config.Dispatcher.LookUp(ctx, q.attempt())
	switch known.Verdict {
	case WasRefused, WasCompensated, ClosedNow:
		return fmt.Errorf("%w: the participant says that step %s was not executed; retry it, or mark it refused",
			machine.ErrDecisionUnfit, q.step.Path())
	case NotAnswered:
		return q.notAsked(known.Failure)
	default:
		return nil
	}
}

// takeOver reads what the participant has under the command id.
func (q *inquiry) takeOver(ctx context.Context, params *ResumeParams) error {
	known := q.engine.config.Dispatcher.LookUp(ctx, q.attempt())
	if known.Verdict == NotAnswered {
		return q.notAsked(known.Failure)
	}
	method := q.step.Scheduled.GetMethod()
	if known.Digest == "" || known.Method != method {
		return fmt.Errorf("%w: the participant doesn't say what it has for step %s as %s (it knows %q); mark the "+
			"step done or refused", machine.ErrDecisionUnfit, q.step.Path(), method, known.Method)
	}
	attempt := q.attempt()
	attempt.Digest = known.Digest
	closed := q.closeCommand(ctx, attempt)
	params.Digest = known.Digest
	switch closed.Verdict {
	case WasExecuted:
		params.Payload = nonNil(closed.Reply)
	case WasRefused, WasCompensated, ClosedNow:
		params.Refusal = closed.Failure
		if params.Refusal == nil {
			params.Refusal = &treatyv1.Failure{
				Code: int32(codes.FailedPrecondition), Message: "the participant has refused or undone the command",
			}
		}
	case WasAccepted:
		return fmt.Errorf("%w: the participant has accepted what it has for step %s and hasn't completed it; wait "+
			"for it",
			machine.ErrDecisionUnfit, q.step.Path())
	default:
		return q.notAsked(closed.Failure)
	}
	return nil
}

// settle finds out whether a refusal, which the participant doesn't claim to have stored, holds for all attempts.
func (q *inquiry) settle(ctx context.Context, completion *Completion) error {
	closed := q.closeCommand(ctx, q.attempt())
	switch closed.Verdict {
	case WasRefused, WasCompensated, ClosedNow:
		completion.Settled = true
	case WasExecuted:
		completion.Refusal, completion.Reply = nil, closed.Reply
	case NotAnswered:
		if closed.Halt == NoHalt || closed.Halt == HaltReplaced {
			return q.notAsked(closed.Failure)
		}
	default:
	}
	return nil
}

// closeCommand asks the participant what became of an action. If it knows a later epoch, the store was replaced.
func (q *inquiry) closeCommand(ctx context.Context, attempt *Attempt) Closed {
	closed := q.engine.config.Dispatcher.CloseCommand(ctx, attempt)
	if closed.Halt == HaltReplaced {
		q.engine.gate.replaced(replacedBy(attempt.Call.Method, closed.Failure), closed.LaterEpoch)
	}
	return closed
}

// notAsked returns the error of a participant that can't be asked now, or that of Condition if it has said that the
// store was replaced.
func (q *inquiry) notAsked(failure *treatyv1.Failure) error {
	if err := q.engine.gate.err(); err != nil {
		return err
	}
	return fmt.Errorf("%w: step %s (%s): %s", ErrNotAsked, q.step.Path(), q.step.Scheduled.GetMethod(),
		failure.GetMessage())
}

// settleCompletion asks the participant when everything depends on whether a refusal holds for all attempts.
func (e *Engine) settleCompletion(ctx context.Context, completion *Completion) error {
	if completion.Refusal == nil || completion.Settled || completion.Direction == Compensation {
		return nil
	}
	q, err := e.inquire(ctx, completion.Saga, completion.Step)
	if errors.Is(err, journal.ErrNotFound) || errors.Is(err, ErrStepNotFound) {
		return nil // the saga's turn says so
	}
	if err != nil || !q.decisive() || q.step.State != treatyv1.StepState_STEP_STATE_SCHEDULED {
		return err
	}
	if err := q.saga.CheckEtag(completion.Etag); err != nil {
		return err // before the participant closes the command
	}
	return q.settle(ctx, completion)
}
