package machine

import (
	"bytes"
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
)

// MaxSteps is how many steps a saga may have. One that asks for more is suspended: it is a loop without an end, or a process that
// should be several sagas.
const MaxSteps = 10_000

// compare holds an intent that is about to be read against what the code asked for.
func (m *Machine) compare(record *treatyv1.Record) {
	scheduled := record.GetStepScheduled()
	if scheduled == nil || m.co == nil {
		return
	}
	expected := fmt.Sprintf("step %s %s", scheduled.GetStep(), scheduled.GetMethod())
	var found string
	thread := m.co.thread
	switch {
	case m.co.ended:
		found = m.co.describeEnd()
	case thread.call == nil:
		found = "the code waits for another step"
	case thread.next() != scheduled.GetStep() || thread.call.Method != scheduled.GetMethod():
		found = fmt.Sprintf("step %s %s", thread.next(), thread.call.Method)
	case !sameRequest(thread.call, scheduled.GetRequest()):
		expected += " with the journaled request"
		found = fmt.Sprintf("step %s %s with another request", thread.next(), thread.call.Method)
	default:
		return
	}
	m.mismatch = &treatyv1.SagaSuspended{
		Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH,
		Message: fmt.Sprintf("the saga's code doesn't match its journal at step %s: expected %s, found %s; run the code that wrote the journal and resume, "+
			"or cancel the saga, which needs no code", scheduled.GetStep(), expected, found),
		Step: scheduled.GetStep(), Expected: expected, Found: found,
	}
	m.stopCode()
}

func sameRequest(call *Call, journaled []byte) bool {
	return bytes.Equal(call.Request, journaled) || call.Same != nil && call.Same(journaled)
}

func (co *coroutine) describeEnd() string {
	switch {
	case co.panicked != "":
		return "the code panicked: " + co.panicked
	case co.failure != nil:
		return "the code returned the error: " + co.failure.GetMessage()
	default:
		return "the code returned its reply"
	}
}

// follow tells the code of a record.
func (m *Machine) follow(record *treatyv1.Record) {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		if m.config.Code != nil {
			m.co = newCoroutine(m, m.config.Code, m.saga.Started.GetRequest())
			m.co.resume(Result{})
		}
	case *treatyv1.Record_StepScheduled:
		if m.co != nil {
			m.co.thread.call = nil
		}
	case *treatyv1.Record_StepDone:
		m.deliver(r.StepDone.GetStep())
	case *treatyv1.Record_StepRefused:
		m.deliver(r.StepRefused.GetStep())
	case *treatyv1.Record_StepUnknown:
		m.deliver(r.StepUnknown.GetStep())
	case *treatyv1.Record_CompensationDecided, *treatyv1.Record_SagaSucceeded:
		m.stopCode()
	}
}

// deliver resumes the code with the end of the step that it waits for.
func (m *Machine) deliver(path string) {
	co := m.co
	if co == nil || co.ended || m.saga.Decided != nil || co.thread.call != nil || co.thread.next() != path {
		return
	}
	step := m.saga.Step(path)
	result := Result{Reply: step.Reply, Failure: step.Failure}
	if step.State == treatyv1.StepState_STEP_STATE_UNKNOWN {
		result.Unknown = true
		if result.Failure == nil {
			result.Failure = &treatyv1.Failure{Code: codeDeadlineExceeded, Message: "the outcome is unknown"}
		}
	}
	co.resume(result)
}

func (m *Machine) stopCode() {
	if m.co != nil {
		m.co.stop()
		m.co = nil
	}
}

// forward does what the code asks for.
func (m *Machine) forward() {
	co := m.co
	switch {
	case m.mismatch != nil:
		m.suspend(m.mismatch)
		m.mismatch = nil
	case co == nil:
		m.suspend(&treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_NO_CODE,
			Message: fmt.Sprintf("this orchestrator has no code for %s; start one that registers it and resume, or cancel the saga, which needs no code",
				m.saga.Started.GetDefinition()),
		})
	case co.ended && co.panicked != "":
		m.suspend(&treatyv1.SagaSuspended{
			Reason:  treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC,
			Message: fmt.Sprintf("the saga's code panicked %s: %s; mend the code and resume, or cancel the saga, which needs no code", m.where(), co.panicked),
		})
	case co.ended && co.failure != nil:
		m.fail(co.failure)
	case co.ended:
		m.settle(co.reply)
	case m.deadlinePassed():
		m.decideDeadline()
	case co.thread.call != nil:
		m.schedule(co.thread.next(), co.thread.call)
	}
}

// where says how far the code came.
func (m *Machine) where() string {
	if len(m.saga.Steps) == 0 {
		return "before its first step"
	}
	last := m.saga.Steps[len(m.saga.Steps)-1]
	return fmt.Sprintf("after step %s (%s)", last.Path(), last.Scheduled.GetMethod())
}

// schedule intends the step that the code asks for, if the rules of the saga language allow it.
func (m *Machine) schedule(path string, call *Call) {
	command, known := m.config.Command(call.Method)
	if rule := m.broken(command, known, call); rule != "" {
		m.suspend(&treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_RULE, Step: path,
			Message: fmt.Sprintf("step %s can't be sent: %s; mend the code and resume%s", path, rule, m.orCancel()),
			Found:   fmt.Sprintf("step %s %s", path, call.Method),
		})
		return
	}
	scheduled := &treatyv1.StepScheduled{
		Step: path, Method: call.Method, Request: call.Request, Kind: command.Kind, Compensation: command.Compensation.Plan(),
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{StepScheduled: scheduled}})
	m.effects = append(m.effects, Effect{Step: m.saga.Step(path), Direction: Action})
}

// broken says which rule the call breaks; empty when it breaks none.
func (m *Machine) broken(command *contract.Command, known bool, call *Call) string {
	if !known {
		return fmt.Sprintf("%s is no command of a contract that this orchestrator was built with", call.Method)
	}
	if len(m.saga.Steps) >= MaxSteps {
		return fmt.Sprintf("a saga has at most %d steps", MaxSteps)
	}
	back := m.saga.pointOfNoReturn()
	if back == nil {
		return ""
	}
	switch command.Kind {
	case treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE:
		return fmt.Sprintf("%s is compensatable, but behind step %s (%s) nothing is undone any more; put it before that step, or make it retriable",
			call.Method, back.Path(), back.Scheduled.GetMethod())
	case treatyv1.CommandKind_COMMAND_KIND_PIVOT:
		return fmt.Sprintf("%s is a pivot, but step %s (%s) is the saga's point of no return already; a saga has one pivot, before its retriable commands",
			call.Method, back.Path(), back.Scheduled.GetMethod())
	}
	return ""
}

func (m *Machine) orCancel() string {
	if m.saga.pointOfNoReturn() != nil {
		return ""
	}
	return ", or cancel the saga, which needs no code"
}

// fail ends a saga whose code returned an error.
func (m *Machine) fail(failure *treatyv1.Failure) {
	if back := m.saga.pointOfNoReturn(); back != nil {
		m.suspend(&treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT,
			Message: fmt.Sprintf("the saga's code returned an error behind step %s (%s), where nothing is undone any more: %s; mend the code so that it goes on, and resume",
				back.Path(), back.Scheduled.GetMethod(), failure.GetMessage()),
			Failure: failure,
		})
		return
	}
	m.decide(&treatyv1.CompensationDecided{Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED, Failure: failure})
}

// settle ends a saga whose code returned a reply. A step whose unknown outcome the code took in its stride may have run, so it is
// undone first.
func (m *Machine) settle(reply []byte) {
	if m.undoNext(isUnknown) {
		return
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaSucceeded{SagaSucceeded: &treatyv1.SagaSucceeded{Reply: reply}}})
}

func isUnknown(step *Step) bool { return step.State == treatyv1.StepState_STEP_STATE_UNKNOWN }

func (m *Machine) deadlinePassed() bool {
	due := m.Due()
	return !due.IsZero() && !due.After(m.now) && m.saga.pivotUnderWay() == nil
}

func (m *Machine) decideDeadline() {
	m.decide(&treatyv1.CompensationDecided{
		Cause:   treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE,
		Failure: &treatyv1.Failure{Code: codeDeadlineExceeded, Message: "the saga's deadline passed"},
	})
}
