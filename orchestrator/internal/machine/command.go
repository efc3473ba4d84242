package machine

import (
	"bytes"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
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
	in = withoutLargeReply(step, in)
	if suspended := m.stuck(step, in); suspended != nil {
		if m.saga.Suspension == nil { // otherwise the command is sent again when the saga is resumed
			m.suspend(suspended)
		}
		return
	}
	m.recordOutcome(step, in)
	if !m.suspendUnpublishable(step, in) {
		m.proceed()
	}
}

// withoutLargeReply returns how an action has ended: as it has, unless its reply leaves no room for its compensation,
// whose request has the reply, too. Then the reply isn't recorded and the outcome counts as unknown, so that the step
// can be compensated without it.
func withoutLargeReply(step *Step, in CommandEnded) CommandEnded {
	if in.Outcome != Done || replyFits(step, len(in.Reply)) {
		return in
	}
	in.Outcome = Unknown
	in.Failure = &treatyv1.Failure{
		Code: int32(codes.ResourceExhausted),
		Message: fmt.Sprintf("%s was executed, but %v; so the reply was dropped, and the step is compensated without "+
			"it; store the data elsewhere and reply with a reference",
			step.Scheduled.GetMethod(), replyTooLarge(step, len(in.Reply))),
	}
	in.Reply = nil
	return in
}

// suspendUnpublishable suspends a saga if the reply of a step that was just done is an event that can't be published:
// others may wait for it. It reports whether it did.
func (m *Machine) suspendUnpublishable(step *Step, in CommandEnded) bool {
	if in.Outcome != Done || m.saga.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		return false
	}
	method := step.Scheduled.GetMethod()
	err := m.checkPublishable(method, in.Reply)
	if err == nil {
		return false
	}
	m.suspend(&treatyv1.SagaSuspended{
		Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_RULE, Step: step.Path(),
		Message: fmt.Sprintf("the reply of step %s (%s) is an event that can't be published: %v; nobody hears of it; "+
			"fix the participant, and resume to continue without the event%s", step.Path(), method, err, m.orCancel()),
	})
	return true
}

func (m *Machine) recordOutcome(step *Step, in CommandEnded) {
	switch in.Outcome {
	case Done:
		m.record(recordOfDone(in))
	case Refused:
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepRefused{StepRefused: &treatyv1.StepRefused{
			Step: in.Step, Failure: in.Failure, Attempts: in.Attempts, Decision: in.Decision,
			MayHaveRun: in.MayHaveRun && step.Scheduled.GetCompensation() != nil, Principal: in.Principal,
		}}})
	case Unknown, Accepted:
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepUnknown{StepUnknown: &treatyv1.StepUnknown{
			Step: in.Step, Failure: in.Failure, Attempts: in.Attempts,
		}}})
	}
}

// stuck returns why a saga can't continue after an action has ended in this way, or nil if it can.
func (m *Machine) stuck(step *Step, in CommandEnded) *treatyv1.SagaSuspended {
	if in.Outcome == Done {
		return nil
	}
	suspended := &treatyv1.SagaSuspended{Step: in.Step, Failure: in.Failure, Attempts: in.Attempts}
	kind, method := step.Scheduled.GetKind(), step.Scheduled.GetMethod()
	decisive := kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT || kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE
	switch {
	case in.Outcome == OtherRequest:
		otherRequest(suspended, step, "step "+in.Step, method, in.Other)
		suspended.Message += "mark the step done or refused, or take over what the participant has"
		return suspended
	case in.Outcome == Purged:
		purged(suspended, "step "+in.Step, method)
		suspended.Message += "mark the step done or refused"
		return suspended
	case !decisive:
		return nil
	case in.Outcome == Accepted:
		suspended.Reason = treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING
		suspended.Message = fmt.Sprintf("gave up waiting for step %s (%s), which the participant has accepted and "+
			"hasn't completed; the saga continues when the participant completes it; retry to wait again", in.Step,
			method)
		return suspended
	case in.Outcome == Refused && in.MayHaveRun:
		suspended.Message = fmt.Sprintf("step %s (%s) was refused, but an earlier attempt may have been executed, ",
			in.Step, method)
	case in.Outcome == Unknown:
		suspended.Message = fmt.Sprintf("gave up on step %s (%s); it may have been executed, ", in.Step, method)
	default:
		return nil
	}
	suspended.Message += "so the saga can neither continue nor compensate; find out at the participant, then retry " +
		"the step, mark it done with its reply, or mark it refused"
	suspended.Reason = treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN
	if kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE {
		suspended.Reason = treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN
	}
	return suspended
}

// otherRequest completes the suspension of a saga one of whose command ids a participant knows with another request.
// The caller completes the message with the decisions that fit.
func otherRequest(suspended *treatyv1.SagaSuspended, step *Step, what, method string, other *OtherCommand) {
	suspended.Reason = treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST
	suspended.Message = fmt.Sprintf("the participant of %s (%s) knows another request under its command id, and has "+
		"not executed this one; find out which is right, then ", what, method)
	// A command names the request of its action, also when it compensates that.
	digest := step.Digest
	if digest == "" {
		digest = wire.RequestDigest(step.Scheduled.GetMethod(), step.Scheduled.GetRequest())
	}
	suspended.Expected = method + " " + digest
	if other != nil {
		suspended.Found = strings.TrimSpace(other.Method + " " + other.Digest)
	}
}

// purged completes the suspension of a saga of whose command a participant no longer knows what became. The caller
// completes the message with the decisions that fit.
func purged(suspended *treatyv1.SagaSuspended, what, method string) {
	suspended.Reason = treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED
	suspended.Message = fmt.Sprintf("the participant of %s (%s) no longer knows what became of it, since the saga "+
		"started too long ago; find out, then ", what, method)
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
			Step: in.Step, Reply: in.Reply, Attempts: in.Attempts, Decision: in.Decision, Principal: in.Principal,
		}}})
		m.proceed()
	default:
		if m.saga.Suspension != nil {
			return
		}
		suspended := &treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED,
			Step:   in.Step, Failure: in.Failure, Attempts: in.Attempts,
			Message: fmt.Sprintf("the participant refused to compensate step %s (%s); fix it there and retry, "+
				"retry with an edited request, or mark it done", in.Step, method),
		}
		what := "the compensation of step " + in.Step
		switch in.Outcome {
		case OtherRequest:
			otherRequest(suspended, step, what, method, in.Other)
			suspended.Message += "retry, retry with an edited request, or mark it done"
		case Purged:
			purged(suspended, what, method)
			suspended.Message += "mark it done"
		case Refused:
			if undoTooLarge(step) {
				suspended.Reason = treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE
				suspended.Message = fmt.Sprintf("the compensation of step %s (%s) was never sent: its request, "+
					"which has the action's request (%d bytes) and reply (%d bytes), has more than %d bytes; retry "+
					"with an edited request, or undo the step by hand and mark it done", in.Step, method,
					len(step.Scheduled.GetRequest()), len(step.Reply), MaxPayloadBytes)
			}
		case Unknown, Accepted:
			suspended.Reason = treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED
			suspended.Message = fmt.Sprintf("gave up on compensating step %s (%s) after the time in its contract; "+
				"retry, retry with an edited request, or mark it done", in.Step, method)
		}
		m.suspend(suspended)
	}
}

// commandCompleted records the outcome of a command that its participant accepted before. The same completion may come
// twice. A saga that is suspended because the outcome was unknown is resumed: it reports whether the saga's code must
// run again from the start.
func (m *Machine) commandCompleted(in CommandCompleted) (reload bool, err error) {
	step := m.saga.Step(in.Step)
	if step == nil {
		return false, fmt.Errorf("%w: %s", ErrStepNotFound, in.Step)
	}
	changed := m.saga.CheckEtag(in.Etag)
	open, same := step.State == treatyv1.StepState_STEP_STATE_SCHEDULED, sameOutcome(step, in)
	if in.Direction == Compensation {
		if step.CompensationScheduleTime.IsZero() {
			return false, fmt.Errorf("%w: step %s is not being compensated", ErrStepNotFound, in.Step)
		}
		open = step.State == treatyv1.StepState_STEP_STATE_COMPENSATING
		same = step.State == treatyv1.StepState_STEP_STATE_COMPENSATED && in.Outcome == Done
		if changed == nil && open && m.saga.Suspension.GetStep() == in.Step {
			return false, fmt.Errorf("%w: the compensation of step %s is stuck, and an operator must decide about it",
				ErrStepEnded, in.Step)
		}
	}
	switch {
	case changed != nil && !same:
		return false, changed
	case open && in.Direction == Action && !replyFits(step, len(in.Reply)):
		return false, replyTooLarge(step, len(in.Reply))
	case open && m.awaitsOutcome(in.Step) && m.stuck(step, CommandEnded(in)) == nil:
		m.recordResumed(Resume{Decision: in.Decision})
		m.recordOutcome(step, CommandEnded(in))
		if m.suspendUnpublishable(step, CommandEnded(in)) {
			return false, nil
		}
		return m.continueResumed(), nil
	case open:
		m.commandEnded(CommandEnded(in))
		return false, nil
	case same:
		return false, nil
	}
	return false, fmt.Errorf("%w: step %s is %s", ErrStepEnded, in.Step, stateName(step))
}

// awaitsOutcome reports whether the saga is suspended because the outcome of a step is unknown.
func (m *Machine) awaitsOutcome(step string) bool {
	if m.saga.Suspension.GetStep() != step {
		return false
	}
	switch m.saga.Suspension.GetReason() {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN:
		return true
	default:
		return false
	}
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
