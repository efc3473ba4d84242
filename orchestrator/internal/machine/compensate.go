package machine

import (
	"fmt"
	"slices"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// startCompensation turns the saga around, once and for all.
func (m *Machine) startCompensation(decided *treatyv1.CompensationDecided) {
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{CompensationDecided: decided}})
	for _, step := range m.saga.Steps {
		if step.State == treatyv1.StepState_STEP_STATE_SCHEDULED {
			m.effects = append(m.effects, Effect{Step: step, Direction: Action, Abandon: true})
		}
	}
	m.compensate()
}

// compensate undoes what may have run. An attempt that was under way when the saga turned around is awaited first: its reply may be
// needed to undo it, and a participant without an inbox must not see the undo overtake the action.
func (m *Machine) compensate() {
	for _, step := range m.saga.Steps {
		if step.State == treatyv1.StepState_STEP_STATE_SCHEDULED {
			return
		}
	}
	if m.compensateNext(mayHaveRun) {
		return
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaCompensated{SagaCompensated: &treatyv1.SagaCompensated{}}})
}

// compensateNext schedules the compensations whose turn it is: the newest first, side by side where the actions ran side by side. It returns false
// when none is left or under way.
func (m *Machine) compensateNext(needed func(*Step) bool) bool {
	wanted := unfinished(needed)
	if !slices.ContainsFunc(m.saga.Steps, wanted) {
		return false
	}
	return m.compensateSteps(m.saga.order().next(wanted, nil))
}

// unfinished says of a step that it is to be undone, or is being undone.
func unfinished(needed func(*Step) bool) func(*Step) bool {
	return func(step *Step) bool {
		return step.State == treatyv1.StepState_STEP_STATE_COMPENSATING || step.Scheduled.GetCompensation() != nil && needed(step)
	}
}

func (m *Machine) compensateSteps(steps []*Step) bool {
	for _, step := range steps {
		if step.State != treatyv1.StepState_STEP_STATE_COMPENSATING {
			m.scheduleCompensation(step, nil)
		}
	}
	return len(steps) > 0
}

// scopeCompensated says whether nothing of a scope is left to be undone.
func (m *Machine) scopeCompensated(s *scope) bool {
	if m.scopeNoReturn(s) != nil && !s.decided {
		return false
	}
	return len(m.nextInScope(s)) == 0
}

// nextInScope returns the steps of a scope that are to be undone next, or are being undone.
func (m *Machine) nextInScope(s *scope) []*Step {
	at := m.saga.order().find(s.path)
	if at == nil {
		return nil
	}
	return at.next(unfinished(mayHaveRun), nil)
}

// compensateScopes turns around the scopes that failed, and goes on undoing them.
func (m *Machine) compensateScopes() bool {
	for _, s := range slices.Clone(m.program.scopes) {
		switch {
		case !s.ended:
			continue
		case s.decided:
			// Going on with it records nothing that the code could wait for, so whatever comes next is not held up.
			if s.due {
				s.due = false
				m.compensateSteps(m.nextInScope(s))
			}
			continue
		}
		if point := m.scopeNoReturn(s); point != nil {
			m.suspend(&treatyv1.SagaSuspended{
				Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT, Failure: s.failure,
				Message: fmt.Sprintf("the scope at place %s failed behind step %s (%s), where nothing is undone any more: %s; mend the code so that it goes on, and resume",
					s.path, point.Path(), point.Scheduled.GetMethod(), s.failure.GetMessage()),
			})
			return false
		}
		decided := &treatyv1.ScopeCompensationDecided{
			Scope: s.path, Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED, Failure: s.failure,
		}
		if s.expired {
			decided.Cause = treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE
		}
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_ScopeCompensationDecided{ScopeCompensationDecided: decided}})
		return true
	}
	return false
}

func (m *Machine) scheduleCompensation(step *Step, edited []byte) {
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{CompensationScheduled: &treatyv1.CompensationScheduled{
		Step: step.Path(), EditedRequest: edited,
	}}})
	m.effects = append(m.effects, Effect{Step: step, Direction: Compensation})
}

func (m *Machine) compensationOutcome(step *Step, in CommandEnded) {
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
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED, Step: in.Step, Failure: in.Failure, Attempts: in.Attempts,
			Message: fmt.Sprintf("the participant refused to undo step %s (%s); mend it there and retry, retry with an edited request, or mark it done", in.Step, method),
		}
		if in.Outcome == Unknown {
			suspended.Reason = treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED
			suspended.Message = fmt.Sprintf("gave up undoing step %s (%s) after the time its contract allows; retry, retry with an edited request, or mark it done", in.Step, method)
		}
		m.suspend(suspended)
	}
}
