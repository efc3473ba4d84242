package machine

import (
	"bytes"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func (m *Machine) eventReceived(in EventReceived) {
	if m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		return
	}
	for _, wait := range m.saga.Waits {
		for i, key := range wait.Scheduled.GetEvents() {
			if key.GetType() != in.Key.GetType() || key.GetSubject() != in.Key.GetSubject() || in.Arrived.GetPosition() <= m.saga.Taken(key) {
				continue
			}
			arrived := &treatyv1.EventArrived{
				Index: int32(i), Position: in.Arrived.GetPosition(), Source: in.Arrived.GetSource(), Id: in.Arrived.GetId(),
				Time: in.Arrived.GetTime(), Data: in.Arrived.GetData(),
			}
			m.record(&treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{
				Wait: wait.Scheduled.GetWait(), How: &treatyv1.WaitEnded_Event{Event: arrived},
			}}})
			m.proceed()
			return
		}
	}
}

func (m *Machine) discovered(in Discovered) {
	if m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING || m.program == nil {
		return
	}
	t := m.program.unscheduled(in.Path)
	if t == nil {
		return
	}
	op, is := t.op.(*Broadcast)
	if !is {
		return
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_BroadcastScheduled{BroadcastScheduled: &treatyv1.BroadcastScheduled{
		Broadcast: in.Path, Method: op.Method, Participants: in.Participants,
	}}})
	m.proceed()
}

// commandCompleted takes the end of a command that its participant accepted.
func (m *Machine) commandCompleted(in CommandCompleted) error {
	step := m.saga.Step(in.Step)
	if step == nil {
		return fmt.Errorf("%w: %s", ErrStepNotFound, in.Step)
	}
	// What was done stays the same when it is undone later.
	open, same := step.State == treatyv1.StepState_STEP_STATE_SCHEDULED, step.Reply != nil && in.Outcome == Done && bytes.Equal(step.Reply, in.Reply) ||
		step.State == treatyv1.StepState_STEP_STATE_REFUSED && in.Outcome == Refused && sameRefusal(step.Failure, in.Failure)
	if in.Direction == Compensation {
		if step.CompensationScheduleTime.IsZero() {
			return fmt.Errorf("%w: step %s isn't being undone", ErrStepNotFound, in.Step)
		}
		open, same = step.State == treatyv1.StepState_STEP_STATE_COMPENSATING, step.State == treatyv1.StepState_STEP_STATE_COMPENSATED && in.Outcome == Done
		if open && m.saga.Suspension.GetStep() == in.Step {
			return fmt.Errorf("%w: undoing step %s is stuck, and an operator decides how it goes on", ErrStepEnded, in.Step)
		}
	}
	switch {
	case open:
		m.commandEnded(CommandEnded(in))
		return nil
	case same:
		return nil
	}
	return fmt.Errorf("%w: step %s is %s", ErrStepEnded, in.Step, strings.TrimPrefix(step.State.String(), "STEP_STATE_"))
}

// sameRefusal says whether two refusals are one that came twice.
func sameRefusal(a, b *treatyv1.Failure) bool {
	return a.GetCode() == b.GetCode() && a.GetMessage() == b.GetMessage()
}

// compensateForParent turns a child around, even when it has succeeded.
func (m *Machine) compensateForParent() error {
	if m.saga.Decided != nil {
		return nil
	}
	if back := m.saga.pointOfNoReturn(); back != nil {
		return fmt.Errorf("%w: step %s (%s)", ErrPastPivot, back.Path(), back.Scheduled.GetMethod())
	}
	if pivot := m.saga.pivotInFlight(); pivot != nil {
		return fmt.Errorf("%w: step %s (%s)", ErrPivotInFlight, pivot.Path(), pivot.Scheduled.GetMethod())
	}
	m.startCompensation(&treatyv1.CompensationDecided{
		Cause:   treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT,
		Failure: &treatyv1.Failure{Code: int32(codes.Aborted), Message: "the saga that this one is a step of undoes it"},
	})
	m.effects = m.PendingEffects()
	return nil
}

func (m *Machine) cancel(in Cancel) error {
	switch {
	case m.saga.Decided != nil:
		return nil
	case m.saga.Final():
		return ErrEnded
	case m.saga.compensatingUnknown():
		return fmt.Errorf("%w: its code has returned, only steps of unknown outcome are still being undone", ErrEnded)
	case m.saga.pointOfNoReturn() != nil:
		return fmt.Errorf("%w: step %s (%s)", ErrPastPivot, m.saga.pointOfNoReturn().Path(), m.saga.pointOfNoReturn().Scheduled.GetMethod())
	case m.saga.pivotInFlight() != nil:
		return fmt.Errorf("%w: step %s (%s)", ErrPivotInFlight, m.saga.pivotInFlight().Path(), m.saga.pivotInFlight().Scheduled.GetMethod())
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
