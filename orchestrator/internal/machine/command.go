package machine

import (
	"bytes"
	"fmt"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// commandEnded records the outcome of a command.
func (m *Machine) commandEnded(in CommandEnded) {
	step := m.saga.Step(in.Step)
	if step == nil {
		return
	}
	if in.Direction == Compensation {
		m.compensationEnded(step, in)
		return
	}
	if step.State != treatyv1.StepState_STEP_STATE_SCHEDULED {
		return
	}
	switch in.Outcome {
	case Done:
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepDone{StepDone: &treatyv1.StepDone{
			Step: in.Step, Reply: in.Reply, Attempts: in.Attempts,
		}}})
	case Refused:
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepRefused{StepRefused: &treatyv1.StepRefused{
			Step: in.Step, Failure: in.Failure, Attempts: in.Attempts,
		}}})
	case Unknown:
		if step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_PIVOT {
			m.suspendForPivot(step, in)
			return
		}
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepUnknown{StepUnknown: &treatyv1.StepUnknown{
			Step: in.Step, Failure: in.Failure, Attempts: in.Attempts,
		}}})
	}
	m.proceed()
}

// suspendForPivot suspends a saga whose pivot has an unknown outcome.
func (m *Machine) suspendForPivot(step *Step, in CommandEnded) {
	m.suspend(&treatyv1.SagaSuspended{
		Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		Step:   in.Step, Failure: in.Failure, Attempts: in.Attempts,
		Message: fmt.Sprintf("gave up on step %s (%s), the pivot; it may have been executed, so the saga can neither "+
			"continue nor compensate; find out at the participant, then retry the step, mark it done with its reply, "+
			"or mark it refused", in.Step, step.Scheduled.GetMethod()),
	})
}

// compensationEnded records the outcome of a compensation.
func (m *Machine) compensationEnded(step *Step, in CommandEnded) {
	if step.State != treatyv1.StepState_STEP_STATE_COMPENSATING {
		return
	}
	method := step.Scheduled.GetCompensation().GetMethod()
	switch in.Outcome {
	case Done:
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_CompensationDone{CompensationDone: &treatyv1.CompensationDone{
			Step: in.Step, Reply: in.Reply, Attempts: in.Attempts,
		}}})
		m.proceed()
	case Refused, Unknown:
		if m.saga.Suspension != nil {
			return
		}
		suspended := &treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED,
			Step:   in.Step, Failure: in.Failure, Attempts: in.Attempts,
			Message: fmt.Sprintf("the participant refused to compensate step %s (%s); fix it there and retry, "+
				"retry with an edited request, or mark it done", in.Step, method),
		}
		if in.Outcome == Unknown {
			suspended.Reason = treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED
			suspended.Message = fmt.Sprintf("gave up on compensating step %s (%s) after the time in its contract; "+
				"retry, retry with an edited request, or mark it done", in.Step, method)
		}
		m.suspend(suspended)
	}
}

// commandCompleted records the outcome of a command that its participant accepted before. The same completion may come
// twice.
func (m *Machine) commandCompleted(in CommandCompleted) error {
	step := m.saga.Step(in.Step)
	if step == nil {
		return fmt.Errorf("%w: %s", ErrStepNotFound, in.Step)
	}
	open, same := step.State == treatyv1.StepState_STEP_STATE_SCHEDULED, sameOutcome(step, in)
	if in.Direction == Compensation {
		if step.CompensationScheduleTime.IsZero() {
			return fmt.Errorf("%w: step %s is not being compensated", ErrStepNotFound, in.Step)
		}
		open = step.State == treatyv1.StepState_STEP_STATE_COMPENSATING
		same = step.State == treatyv1.StepState_STEP_STATE_COMPENSATED && in.Outcome == Done
		if open && m.saga.Suspension.GetStep() == in.Step {
			return fmt.Errorf("%w: the compensation of step %s is stuck, and an operator must decide about it",
				ErrStepEnded, in.Step)
		}
	}
	switch {
	case open:
		m.commandEnded(CommandEnded(in))
		return nil
	case same:
		return nil
	}
	return fmt.Errorf("%w: step %s is %s", ErrStepEnded, in.Step, stateName(step))
}

// sameOutcome reports whether the action of a step has the outcome of a completion. An action that was done stays done
// when it is compensated.
func sameOutcome(step *Step, in CommandCompleted) bool {
	if step.State == treatyv1.StepState_STEP_STATE_REFUSED {
		return in.Outcome == Refused && step.Failure.GetCode() == in.Failure.GetCode() &&
			step.Failure.GetMessage() == in.Failure.GetMessage()
	}
	return step.Reply != nil && in.Outcome == Done && bytes.Equal(step.Reply, in.Reply)
}

func stateName(step *Step) string { return strings.TrimPrefix(step.State.String(), "STEP_STATE_") }
