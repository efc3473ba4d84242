package machine

import (
	"fmt"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// resume performs an operator's decision. It reports whether the saga's code must run again from the start.
func (m *Machine) resume(in Resume) (reload bool, err error) {
	if err := m.saga.CheckEtag(in.Etag); err != nil {
		return false, err
	}
	suspension := m.saga.Suspension
	if suspension == nil {
		return false, ErrNotSuspended
	}
	if in.Step != "" && in.Step != suspension.GetStep() {
		return false, fmt.Errorf("%w: it is about step %s, but step %s is stuck", ErrDecisionUnfit, in.Step,
			suspension.GetStep())
	}
	switch step, direction := m.saga.stuckCommand(); {
	case step == nil:
		if in.Action != Retry {
			return false, fmt.Errorf("%w: no command is stuck; retry%s", ErrDecisionUnfit,
				m.orCancel())
		}
		m.recordResumed(in)
		return true, nil
	case direction == Compensation:
		err = m.resumeCompensation(step, in)
	default:
		err = m.resumeAction(step, in)
	}
	if err != nil {
		return false, err
	}
	return m.continueResumed(), nil
}

// continueResumed continues a saga after it was resumed. It reports whether the saga's code must run again from the
// start: results may have come while the saga was suspended, and so the code sees them as every replay does.
func (m *Machine) continueResumed() (reload bool) {
	if m.saga.CompensationDecided == nil {
		return true
	}
	m.proceed()
	m.effects = m.PendingEffects()
	return false
}

func (m *Machine) recordResumed(in Resume) {
	resumed := &treatyv1.SagaResumed{Decision: in.Decision}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaResumed{SagaResumed: resumed}})
}

func (m *Machine) resumeCompensation(step *Step, in Resume) error {
	switch in.Action {
	case Retry:
		if m.saga.Suspension.GetReason() ==
			treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE {
			return fmt.Errorf("%w: the request of the compensation of step %s is too large, and stays so; retry it "+
				"with an edited request, or mark it done", ErrDecisionUnfit, step.Path())
		}
		m.recordResumed(in)
	case RetryEdited:
		m.recordResumed(in)
		m.scheduleCompensation(step, in.Payload)
	case MarkDone:
		m.recordResumed(in)
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_CompensationDone{CompensationDone: &treatyv1.CompensationDone{
			Step: step.Path(), Reply: in.Payload, Decision: in.Decision,
		}}})
	default:
		return fmt.Errorf("%w: the compensation of step %s is stuck; "+
			"retry it, retry it with an edited request, or mark it done", ErrDecisionUnfit, step.Path())
	}
	return nil
}

// resumeAction performs a decision about an action whose outcome the orchestrator can't find out.
func (m *Machine) resumeAction(step *Step, in Resume) error {
	if step.State != treatyv1.StepState_STEP_STATE_SCHEDULED && in.Action != Retry {
		return fmt.Errorf("%w: the participant has completed step %s in the meantime: it is %s; retry to continue "+
			"the saga",
			ErrDecisionUnfit, step.Path(), stateName(step))
	}
	if err := replyTooLarge(step, len(in.Payload)); err != nil {
		return err
	}
	switch in.Action {
	case Retry:
		m.recordResumed(in)
	case MarkDone:
		m.recordResumed(in)
		m.recordDone(step, in)
	case MarkRefused:
		m.recordResumed(in)
		in.Refusal = markedRefused(in.Decision)
		m.recordRefused(step, in)
	case TakeOver:
		if reason := m.saga.Suspension.GetReason(); reason !=
			treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST {
			return fmt.Errorf("%w: the participant knows no other request under the id of step %s; "+
				"retry it, mark it done with its reply, or mark it refused", ErrDecisionUnfit, step.Path())
		}
		m.recordResumed(in)
		if in.Refusal == nil {
			m.recordDone(step, in)
		} else {
			m.recordRefused(step, in)
		}
	default:
		return fmt.Errorf("%w: the outcome of step %s is open; retry it, mark it done with its reply, or mark it "+
			"refused",
			ErrDecisionUnfit, step.Path())
	}
	return nil
}

func (m *Machine) recordDone(step *Step, in Resume) {
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepDone{StepDone: &treatyv1.StepDone{
		Step: step.Path(), Reply: in.Payload, Decision: in.Decision, RequestDigest: in.Digest,
	}}})
}

func (m *Machine) recordRefused(step *Step, in Resume) {
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepRefused{StepRefused: &treatyv1.StepRefused{
		Step: step.Path(), Failure: in.Refusal, Decision: in.Decision,
	}}})
}

func markedRefused(decision *treatyv1.Decision) *treatyv1.Failure {
	return &treatyv1.Failure{
		Code: int32(codes.FailedPrecondition), Message: "marked as refused: " + decision.GetReason(),
	}
}
