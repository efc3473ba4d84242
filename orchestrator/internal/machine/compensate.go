package machine

import (
	"fmt"
	"slices"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// startCompensation records the decision to compensate the saga. The decision is final.
func (m *Machine) startCompensation(decided *treatyv1.CompensationDecided) {
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{CompensationDecided: decided}})
	m.refuseWithdrawn(decided.GetFailure().GetMessage())
	for _, step := range m.saga.Steps {
		if step.State == treatyv1.StepState_STEP_STATE_SCHEDULED {
			m.effects = append(m.effects, Effect{Step: step, Direction: Action, Abandon: true})
		}
	}
	m.compensate()
}

// compensate schedules the next compensations of everything that may have run. It first waits for the attempts in
// flight: a compensation may need the reply, and a participant without an inbox must not receive a compensation before
// its action.
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

// compensateNext schedules the next compensations of the steps that the function needed selects: the newest first, in
// parallel where the actions ran in parallel. It returns false when none is left or in flight.
func (m *Machine) compensateNext(needed func(*Step) bool) bool {
	wanted := unfinished(needed)
	if !slices.ContainsFunc(m.saga.Steps, wanted) {
		return false
	}
	return m.compensateSteps(m.saga.order().next(wanted, nil))
}

// unfinished selects the steps that are being compensated and, of those that needed selects, the ones still to be
// compensated.
func unfinished(needed func(*Step) bool) func(*Step) bool {
	return func(step *Step) bool {
		return step.State == treatyv1.StepState_STEP_STATE_COMPENSATING ||
			step.Scheduled.GetCompensation() != nil && needed(step)
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

func (m *Machine) scheduleCompensation(step *Step, edited []byte) {
	scheduled := &treatyv1.CompensationScheduled{Step: step.Path(), EditedRequest: edited}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{CompensationScheduled: scheduled}})
	if edited == nil {
		m.scheduled = append(m.scheduled, step)
	}
	m.effects = append(m.effects, Effect{Step: step, Direction: Compensation, Fresh: edited == nil})
}

// scopeCompensated reports whether a scope has no steps left to compensate.
func (m *Machine) scopeCompensated(s *scope) bool {
	if m.scopeNoReturn(s) != nil && !s.decided {
		return false
	}
	return len(m.nextInScope(s)) == 0
}

// nextInScope returns the steps of a scope to compensate next, and those that are being compensated.
func (m *Machine) nextInScope(s *scope) []*Step {
	at := m.saga.order().find(s.path)
	if at == nil {
		return nil
	}
	return at.next(unfinished(mayHaveRun), nil)
}

// compensateScopes decides to compensate the next failed scope, and continues to compensate those that were decided. It
// returns true if it recorded something that the code may wait for.
func (m *Machine) compensateScopes() bool {
	for _, s := range slices.Clone(m.program.scopes) {
		switch {
		case !s.ended, !s.decided && m.mustCatchUp():
			continue
		case s.decided:
			// The code doesn't wait for the scheduling of compensations, so the loop continues.
			if s.due {
				s.due = false
				m.compensateSteps(m.nextInScope(s))
			}
			continue
		}
		if step := m.scopeNoReturn(s); step != nil {
			m.suspend(&treatyv1.SagaSuspended{
				Reason:  treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT,
				Failure: s.failure,
				Message: fmt.Sprintf("the scope at position %s failed after step %s (%s), so it can't be compensated; "+
					"fix the code so that it continues, and resume",
					s.path, step.Path(), step.Scheduled.GetMethod()),
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

// scopeNoReturn returns the step because of which a scope can't be stopped or compensated: a pivot that is done or in
// flight, or a retriable command. It returns nil if there is none.
func (m *Machine) scopeNoReturn(s *scope) *Step {
	for _, step := range s.noReturn {
		if step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE ||
			step.State == treatyv1.StepState_STEP_STATE_DONE || step.State == treatyv1.StepState_STEP_STATE_SCHEDULED {
			return step
		}
	}
	return nil
}
