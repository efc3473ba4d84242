package machine

import (
	"slices"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Decisions returns what a person can decide about the saga now, the usual decision first. Apply would accept each of
// them, and no other one. Parameter neverSent reports whether the command of a step in flight was certainly never sent.
// If it is nil, every command may have been sent.
func (s *Saga) Decisions(neverSent func(step string) bool) []treatyv1.DecisionKind {
	kinds := s.waysToResume()
	if s.cancellable(neverSent) {
		kinds = append(kinds, treatyv1.DecisionKind_DECISION_KIND_CANCEL)
	}
	switch s.Suspension.GetReason() {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_UNSPECIFIED:
		if slices.ContainsFunc(s.Steps, isInFlight) {
			kinds = append(kinds, treatyv1.DecisionKind_DECISION_KIND_COMPLETE)
		}
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE:
		slices.Reverse(kinds)
	}
	return kinds
}

// waysToResume returns the decisions that resume a suspended saga.
func (s *Saga) waysToResume() []treatyv1.DecisionKind {
	const (
		retry  = treatyv1.DecisionKind_DECISION_KIND_RETRY
		done   = treatyv1.DecisionKind_DECISION_KIND_MARK_DONE
		edited = treatyv1.DecisionKind_DECISION_KIND_RETRY_EDITED
	)
	step, direction := s.stuckCommand()
	switch {
	case s.Suspension == nil:
		return nil
	case step == nil, direction == Action && step.State != treatyv1.StepState_STEP_STATE_SCHEDULED:
		return []treatyv1.DecisionKind{retry}
	case s.Suspension.GetReason() == treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE:
		return []treatyv1.DecisionKind{edited, done}
	case direction == Compensation:
		return []treatyv1.DecisionKind{retry, edited, done}
	}
	kinds := []treatyv1.DecisionKind{retry}
	if s.Suspension.GetReason() == treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST {
		kinds = append(kinds, treatyv1.DecisionKind_DECISION_KIND_TAKE_OVER)
	}
	return append(kinds, done, treatyv1.DecisionKind_DECISION_KIND_MARK_REFUSED)
}

// stuckCommand returns the command for which the saga is suspended. It returns nil if the saga isn't suspended for one.
func (s *Saga) stuckCommand() (*Step, Direction) {
	step := s.Step(s.Suspension.GetStep())
	switch s.Suspension.GetReason() {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE:
		return step, Compensation
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN:
		return step, Action
	case treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED:
		if step.CompensationScheduleTime.IsZero() {
			return step, Action
		}
		return step, Compensation
	default:
		return nil, Action
	}
}

// cancellable reports whether cancelling the saga now compensates it.
func (s *Saga) cancellable(neverSent func(step string) bool) bool {
	if s.CompensationDecided != nil || s.checkCancel() != nil || s.checkReversible() != nil {
		return false
	}
	return !slices.ContainsFunc(s.Steps, func(step *Step) bool {
		return isPivotInFlight(step) && (neverSent == nil || !neverSent(step.Path()))
	})
}

// orCancel completes an advice with the alternative to cancel, if the saga can be cancelled.
func (m *Machine) orCancel() string {
	if !m.saga.cancellable(nil) {
		return ""
	}
	return ", or cancel the saga, which needs no code"
}

func isInFlight(step *Step) bool {
	return step.State == treatyv1.StepState_STEP_STATE_SCHEDULED ||
		step.State == treatyv1.StepState_STEP_STATE_COMPENSATING
}
