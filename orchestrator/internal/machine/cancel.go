package machine

import (
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// cancel compensates the saga on request.
func (m *Machine) cancel(in Cancel) error {
	if m.saga.CompensationDecided != nil {
		return nil
	}
	if err := m.saga.CheckEtag(in.Etag); err != nil {
		return err
	}
	if err := m.saga.checkCancel(); err != nil {
		return err
	}
	if err := m.checkReversible(); err != nil {
		return err
	}
	message := "the saga was cancelled"
	if reason := in.Decision.GetReason(); reason != "" {
		message += ": " + reason
	}
	m.startCompensation(&treatyv1.CompensationDecided{
		Cause:    treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED,
		Failure:  &treatyv1.Failure{Code: int32(codes.Canceled), Message: message},
		Decision: in.Decision,
	})
	m.effects = m.PendingEffects()
	return nil
}

// checkCancel returns an error if the saga has ended, or is about to.
func (s *Saga) checkCancel() error {
	switch {
	case s.Final():
		return ErrEnded
	case s.compensatingUnknown():
		return fmt.Errorf("%w: its code has returned, and only steps with unknown outcomes are still compensated",
			ErrEnded)
	default:
		return nil
	}
}

// compensateForParent compensates a child saga, even if it has succeeded. The decision is that of a person who has
// undone a lost child, or nil.
func (m *Machine) compensateForParent(decision *treatyv1.Decision) error {
	if m.saga.CompensationDecided != nil {
		return nil
	}
	if err := m.checkReversible(); err != nil {
		return err
	}
	m.compensateNow(decision)
	return nil
}

// compensateNow decides to compensate a child saga for its parent. The decision is that of compensateForParent.
func (m *Machine) compensateNow(decision *treatyv1.Decision) {
	m.startCompensation(&treatyv1.CompensationDecided{
		Cause:    treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT,
		Failure:  &treatyv1.Failure{Code: int32(codes.Aborted), Message: "the parent saga compensates this saga"},
		Decision: decision,
	})
	m.effects = m.PendingEffects()
}

// checkReversible returns an error if the saga can no longer compensate, or if that depends on the outcome of a pivot.
func (m *Machine) checkReversible() error {
	if err := m.saga.checkReversible(); err != nil {
		return err
	}
	if step := m.withdrawPivots(m.saga.Steps); step != nil {
		return fmt.Errorf("%w: step %s (%s)", ErrPivotInFlight, step.Path(), step.Scheduled.GetMethod())
	}
	return nil
}

// checkReversible returns an error if the saga can no longer compensate, whatever the outcome of a pivot in flight.
func (s *Saga) checkReversible() error {
	if err := s.checkCaughtUp(); err != nil {
		return err
	}
	if step := s.pointOfNoReturn(); step != nil {
		return fmt.Errorf("%w: step %s (%s)", ErrPastPivot, step.Path(), step.Scheduled.GetMethod())
	}
	if s.mustSucceed() {
		return fmt.Errorf("%w: its parent has sent it as a retriable command, so it must succeed", ErrPastPivot)
	}
	return nil
}

// withdrawPivots holds back the pivots in flight among the steps. It returns a pivot that may have been sent, so that
// its outcome must be awaited, or nil.
func (m *Machine) withdrawPivots(steps []*Step) *Step {
	for _, step := range steps {
		switch {
		case !isPivotInFlight(step) || slices.Contains(m.withdrawn, step):
		case m.config.Withdraw == nil || !m.config.Withdraw(step.Path()):
			return step
		default:
			m.withdrawn = append(m.withdrawn, step)
		}
	}
	return nil
}

// refuseWithdrawn records that the withdrawn pivots were never sent. It belongs into the turn with the decision that
// made them superfluous.
func (m *Machine) refuseWithdrawn(why string) {
	for _, step := range m.withdrawn {
		if isPivotInFlight(step) {
			m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepRefused{StepRefused: &treatyv1.StepRefused{
				Step:    step.Path(),
				Failure: &treatyv1.Failure{Code: int32(codes.Canceled), Message: "never sent: " + why},
			}}})
		}
	}
}

// compensateForDeadline compensates a saga whose deadline passed.
func (m *Machine) compensateForDeadline() {
	if m.saga.lostInWindow(m.saga.deadline()) {
		m.suspendRestored(treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE,
			"its deadline fell into the time that was lost")
		return
	}
	if m.saga.parentMayHaveReply() {
		m.suspendRestored(treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_CHILD,
			"its deadline passed, but its parent at another orchestrator may have received its reply")
		return
	}
	m.startCompensation(&treatyv1.CompensationDecided{
		Cause:   treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE,
		Failure: &treatyv1.Failure{Code: int32(codes.DeadlineExceeded), Message: "the saga's deadline passed"},
	})
}
