package machine

import (
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// decide turns the saga around, once and for all.
func (m *Machine) decide(decided *treatyv1.CompensationDecided) {
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{CompensationDecided: decided}})
	for _, step := range m.saga.Steps {
		if step.State == treatyv1.StepState_STEP_STATE_SCHEDULED {
			m.effects = append(m.effects, Effect{Step: step, Direction: Action, Abandon: true})
		}
	}
	m.backward()
}

// backward undoes what may have run. An attempt that was under way when the saga turned around is awaited first: its reply may be
// needed to undo it, and a participant without an inbox must not see the undo overtake the action.
func (m *Machine) backward() {
	for _, step := range m.saga.Steps {
		if step.State == treatyv1.StepState_STEP_STATE_SCHEDULED {
			return
		}
	}
	if m.undoNext(mayHaveRun) {
		return
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaCompensated{SagaCompensated: &treatyv1.SagaCompensated{}}})
}

// undoNext schedules the newest of the compensatable steps that are to be undone. It returns false when none is left or under way.
func (m *Machine) undoNext(toUndo func(*Step) bool) bool {
	var next *Step
	for _, step := range m.saga.Steps {
		if step.State == treatyv1.StepState_STEP_STATE_COMPENSATING {
			return true
		}
		if step.Scheduled.GetCompensation() != nil && toUndo(step) {
			next = step
		}
	}
	if next == nil {
		return false
	}
	m.scheduleCompensation(next, nil)
	return true
}

func (m *Machine) scheduleCompensation(step *Step, edited []byte) {
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{CompensationScheduled: &treatyv1.CompensationScheduled{
		Step: step.Path(), EditedRequest: edited,
	}}})
	m.effects = append(m.effects, Effect{Step: step, Direction: Compensation})
}

func (m *Machine) compensationOutcome(step *Step, in Outcome) {
	if step.State != treatyv1.StepState_STEP_STATE_COMPENSATING {
		return
	}
	method := step.Scheduled.GetCompensation().GetMethod()
	switch in.Verdict {
	case Done:
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_CompensationDone{CompensationDone: &treatyv1.CompensationDone{
			Step: in.Step, Reply: in.Reply, Attempts: in.Attempts,
		}}})
		m.drive()
	case Refused, Unknown:
		if m.saga.Suspension != nil {
			return
		}
		suspended := &treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED, Step: in.Step, Failure: in.Failure, Attempts: in.Attempts,
			Message: fmt.Sprintf("the participant refused to undo step %s (%s); mend it there and retry, retry with an edited request, or mark it done", in.Step, method),
		}
		if in.Verdict == Unknown {
			suspended.Reason = treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED
			suspended.Message = fmt.Sprintf("gave up undoing step %s (%s) after the time its contract allows; retry, retry with an edited request, or mark it done", in.Step, method)
		}
		m.suspend(suspended)
	}
}
