package machine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// forward does what the saga's code asks for, until the code waits.
func (m *Machine) forward() {
	for m.saga.State == treatyv1.SagaState_SAGA_STATE_RUNNING {
		if !m.advance() {
			break
		}
	}
	if p := m.program; p != nil {
		for _, step := range p.abandoned {
			if step.State == treatyv1.StepState_STEP_STATE_SCHEDULED {
				m.effects = append(m.effects, Effect{Step: step, Direction: Action, Abandon: true})
			}
		}
		p.abandoned = nil
		m.effects = append(m.effects, m.discoveries()...)
	}
}

// advance does the first thing that is due. It returns false when there is nothing left to do.
func (m *Machine) advance() bool {
	p := m.program
	switch {
	case m.mismatch != nil:
		m.suspendForMismatch(m.mismatch)
		m.mismatch = nil
		return false
	case p == nil:
		m.suspend(&treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_NO_CODE,
			Message: fmt.Sprintf("this orchestrator has no code for %s; "+
				"start one that registers it and resume%s", m.saga.Started.GetDefinition(), m.orCancel()),
		})
		return false
	case p.versionMismatch != nil:
		m.suspendForMismatch(p.versionMismatch)
		return false
	case p.live > maxBranches:
		const rule = "it has more than %d open branches; limit saga.Each with saga.AtMost"
		m.suspendForRule("", "the saga", fmt.Sprintf(rule, maxBranches), "")
		return false
	}
	m.flush()
	switch {
	case p.panicked != "":
		m.suspendForPanic(p.panicked)
		return false
	case p.broken != "":
		m.suspendForRule("", "the saga", p.broken, "")
		return false
	case p.stuck != nil:
		m.suspendBlocked(p.stuck)
		return false
	case p.main.ended && (m.mustCatchUp() ||
		p.main.end.failure == nil && m.saga.CatchingUp() && m.saga.undone() != nil):
		return false // Stalled suspends the saga once nothing is in flight
	case p.main.ended && p.restart != nil:
		return m.restart()
	case p.main.ended && p.main.end.failure != nil:
		m.fail(p.main.end.failure)
		return false
	case p.main.ended:
		m.succeed(p.main.end.reply)
		return false
	case m.deadlinePassed():
		m.compensateForDeadline()
		return false
	}
	return m.expireNextScope() || m.endNextDueWait() || m.compensateScopes() || m.scheduleNext()
}

// flush records what the code has set since it last ran: versions, progress, and the waits of stopped branches.
func (m *Machine) flush() {
	p := m.program
	for _, chosen := range p.versions {
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_VersionChosen{VersionChosen: chosen}})
	}
	p.versions = nil
	if p.progress != nil {
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_ProgressSet{
			ProgressSet: &treatyv1.ProgressSet{Progress: p.progress},
		}})
		p.progress = nil
	}
	for _, path := range slices.Clone(p.stoppedWaits) {
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{
			Wait: path, How: &treatyv1.WaitEnded_Stopped_{Stopped: &treatyv1.WaitEnded_Stopped{}},
		}}})
	}
}

// lastStep says how far the code got.
func (m *Machine) lastStep() string {
	if len(m.saga.Steps) == 0 {
		return "before its first step"
	}
	last := m.saga.Steps[len(m.saga.Steps)-1]
	return fmt.Sprintf("after step %s (%s)", last.Path(), last.Scheduled.GetMethod())
}

// expireNextScope stops a scope whose deadline passed.
func (m *Machine) expireNextScope() bool {
	for _, s := range m.program.scopes {
		due := m.scopeDue(s)
		if due.IsZero() || due.After(m.now) {
			continue
		}
		if m.saga.lostInWindow(due) {
			m.suspendRestored(treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE,
				fmt.Sprintf("the deadline of the scope at position %s fell into the time that was lost", s.path))
			return true
		}
		if m.withdrawPivots(s.noReturn) != nil {
			continue
		}
		expired := &treatyv1.ScopeExpired{Scope: s.path}
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_ScopeExpired{ScopeExpired: expired}})
		m.refuseWithdrawn("the scope's deadline passed")
		return true
	}
	return false
}

// scopeDue returns the deadline of a scope. It is zero if the scope has none or can no longer be stopped.
func (m *Machine) scopeDue(s *scope) time.Time {
	if !s.opened || s.ended || s.stopping || m.saga.CatchingUp() || m.saga.overruled(s.deadline) {
		return time.Time{}
	}
	if step := m.scopeNoReturn(s); step != nil && !isPivotInFlight(step) {
		return time.Time{}
	}
	return s.deadline
}

// endNextDueWait ends a wait whose moment has come.
func (m *Machine) endNextDueWait() bool {
	for _, wait := range m.saga.Waits {
		if due := wait.Scheduled.GetDue(); due != nil && !due.AsTime().After(m.now) {
			if m.overdueForEvent(wait) && !m.noEvent {
				continue
			}
			if len(wait.Scheduled.GetEvents()) > 0 && m.saga.lostInWindow(due.AsTime()) {
				m.suspendRestored(treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE,
					fmt.Sprintf("the timeout of wait %s fell into the time that was lost, and its event may have been "+
						"lost, too", wait.Scheduled.GetWait()))
				return true
			}
			m.record(&treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{
				Wait: wait.Scheduled.GetWait(), How: &treatyv1.WaitEnded_Due_{Due: &treatyv1.WaitEnded_Due{}},
			}}})
			return true
		}
	}
	return false
}

// scheduleNext records an operation that the code waits for, or suspends the saga if a rule forbids it.
func (m *Machine) scheduleNext() bool {
	for _, s := range m.program.scopes {
		if s.branches.Within > 0 && !s.opened {
			m.record(&treatyv1.Record{Kind: &treatyv1.Record_ScopeOpened{ScopeOpened: &treatyv1.ScopeOpened{
				Scope: s.path, Deadline: timestamppb.New(ceil(m.now.Add(s.branches.Within))),
			}}})
			return true
		}
	}
	for _, t := range m.program.waiting {
		if t.scheduled {
			continue
		}
		switch op := t.op.(type) {
		case *Call:
			if command, known := m.config.Command(op.Method); known && m.heldBack(t.opPath, op, command.Kind) {
				continue
			}
			return m.scheduleCall(t, op)
		case *Wait:
			return m.scheduleWait(t, op)
		case *Broadcast:
			// It is scheduled when its participants are known.
			if rule := m.checkBroadcast(t, op); rule != "" {
				m.suspendForRule(t.opPath, "broadcast "+t.opPath, rule, op.Method)
				return false
			}
		}
	}
	return false
}

func (m *Machine) scheduleCall(t *Thread, call *Call) bool {
	command, known := m.config.Command(call.Method)
	if rule := m.checkCall(t, command, known, call); rule != "" {
		m.suspendForRule(t.opPath, "step "+t.opPath, rule, call.Method)
		return false
	}
	record, scheduled := newStepScheduled()
	scheduled.Step, scheduled.Method, scheduled.Request = t.opPath, call.Method, call.Request
	scheduled.Kind, scheduled.Participant = command.Kind, call.Participant
	scheduled.Compensation = command.Compensation.Plan()
	m.record(record)
	step := m.saga.Step(t.opPath)
	m.scheduled = append(m.scheduled, step)
	m.effects = append(m.effects, Effect{Step: step, Direction: Action, Fresh: true})
	return true
}

func (m *Machine) scheduleWait(t *Thread, wait *Wait) bool {
	if rule := m.checkWait(wait); rule != "" {
		m.suspendForRule(t.opPath, "wait "+t.opPath, rule, "")
		return false
	}
	for _, key := range wait.Events {
		key.KeyField = m.keyField(key.GetType())
	}
	scheduled := &treatyv1.WaitScheduled{Wait: t.opPath, Events: wait.Events}
	if !wait.Until.IsZero() {
		scheduled.Due = timestamppb.New(ceil(wait.Until))
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_WaitScheduled{WaitScheduled: scheduled}})
	return true
}

// keyField returns the number of the correlation key of an event, or 0 if it isn't known.
func (m *Machine) keyField(name string) int32 {
	if m.config.Event == nil {
		return 0
	}
	event, _ := m.config.Event(name)
	if event == nil {
		return 0
	}
	return int32(event.Key.Number())
}

// ceil rounds up to a microsecond, so that no timer fires early.
func ceil(t time.Time) time.Time {
	if cut := t.Truncate(time.Microsecond); cut.Before(t) {
		return cut.Add(time.Microsecond)
	}
	return t
}

// suspendForRule suspends a saga whose code breaks a rule of the saga language.
func (m *Machine) suspendForRule(path, what, rule, found string) {
	m.suspend(&treatyv1.SagaSuspended{
		Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_RULE, Step: path,
		Message: fmt.Sprintf("%s breaks a rule: %s; fix the code and resume%s", what, rule, m.orCancel()),
		Found:   strings.TrimSpace(what + " " + found),
	})
}

// fail compensates a saga whose code returned an error, or suspends it if it can't compensate.
func (m *Machine) fail(failure *treatyv1.Failure) {
	if step := m.saga.pointOfNoReturn(); step != nil {
		m.suspend(&treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT,
			Message: fmt.Sprintf("the saga's code returned an error after step %s (%s), so the saga can't compensate; "+
				"fix the code so that it continues, and resume",
				step.Path(), step.Scheduled.GetMethod()),
			Failure: failure,
		})
		return
	}
	if m.saga.mustSucceed() {
		m.suspend(&treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT,
			Message: "the saga's code returned an error, but its parent has sent the saga as a retriable command, so " +
				"it must succeed and can't compensate; fix the code so that it continues, and resume",
			Failure: failure,
		})
		return
	}
	if m.saga.parentMayHaveReply() {
		suspended := m.restoredSuspension(treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_CHILD,
			"it fails now, but its parent at another orchestrator may have received its reply")
		suspended.Failure = failure
		m.suspend(suspended)
		return
	}
	m.startCompensation(&treatyv1.CompensationDecided{
		Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED, Failure: failure,
	})
}

// succeed ends a saga whose code returned a reply. Steps that are in doubt, whose errors the code handled, are
// compensated first.
func (m *Machine) succeed(reply []byte) {
	if rule := m.checkReply(reply); rule != "" {
		m.suspendForRule("", "the saga", rule, "")
		return
	}
	if m.compensateNext(inDoubt) {
		return
	}
	m.record(recordOfSuccess(reply))
}
