package machine

import (
	"slices"
	"strings"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// applyToCode delivers a record to the saga's code. The same records, live or replayed, always bring the code to the
// same point.
func (m *Machine) applyToCode(record *treatyv1.Record) {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		m.startCode()
	case *treatyv1.Record_SagaRestarted:
		m.stopCode()
		m.startCode()
	case *treatyv1.Record_CompensationDecided, *treatyv1.Record_SagaSucceeded:
		m.stopCode()
	default:
		if m.program != nil && !m.program.halted() {
			m.program.apply(r)
		}
	}
}

func (m *Machine) startCode() {
	if m.config.Code == nil {
		return
	}
	m.unversioned = nil
	m.program = newProgram(m, m.config.Code, m.saga.Started.GetRequest())
	m.program.run(m.program.main)
}

func (m *Machine) stopCode() {
	if m.program != nil {
		m.program.stopAll()
		m.program = nil
	}
}

func (p *program) apply(record any) {
	switch r := record.(type) {
	case *treatyv1.Record_StepScheduled:
		p.noteNoReturn(p.markScheduled(r.StepScheduled.GetStep()), r.StepScheduled)
	case *treatyv1.Record_WaitScheduled:
		p.markScheduled(r.WaitScheduled.GetWait())
	case *treatyv1.Record_BroadcastScheduled:
		p.markScheduled(r.BroadcastScheduled.GetBroadcast())
		p.deliver(r.BroadcastScheduled.GetBroadcast(), result{names: r.BroadcastScheduled.GetParticipants()})
	case *treatyv1.Record_StepDone:
		p.deliverStep(r.StepDone.GetStep())
	case *treatyv1.Record_StepRefused:
		p.deliverStep(r.StepRefused.GetStep())
	case *treatyv1.Record_StepUnknown:
		p.deliverStep(r.StepUnknown.GetStep())
	case *treatyv1.Record_CompensationDone:
		p.resumeCompensatedScopes(r.CompensationDone.GetStep())
	case *treatyv1.Record_WaitEnded:
		if r.WaitEnded.GetStopped() != nil {
			ended := r.WaitEnded.GetWait()
			p.stoppedWaits = slices.DeleteFunc(p.stoppedWaits, func(path string) bool { return path == ended })
			return
		}
		p.deliver(r.WaitEnded.GetWait(), result{wait: WaitResult{Event: r.WaitEnded.GetEvent()}})
	case *treatyv1.Record_ScopeOpened:
		if s := p.scopeOf(r.ScopeOpened.GetScope()); s != nil {
			s.opened, s.deadline = true, r.ScopeOpened.GetDeadline().AsTime()
		}
	case *treatyv1.Record_ScopeExpired:
		if s := p.scopeOf(r.ScopeExpired.GetScope()); s != nil {
			p.expireScope(s)
		}
	case *treatyv1.Record_ScopeCompensationDecided:
		if s := p.scopeOf(r.ScopeCompensationDecided.GetScope()); s != nil {
			s.decided, s.due = true, true
		}
	}
}

// markScheduled notes that the operation at a path is recorded. It returns the operation's thread, or nil.
func (p *program) markScheduled(path string) *Thread {
	t := p.unscheduled(path)
	if t != nil {
		t.scheduled = true
	}
	return t
}

// noteNoReturn notes a pivot or a retriable command in the scopes around its step.
func (p *program) noteNoReturn(t *Thread, scheduled *treatyv1.StepScheduled) {
	kind := scheduled.GetKind()
	if t == nil || kind != treatyv1.CommandKind_COMMAND_KIND_PIVOT &&
		kind != treatyv1.CommandKind_COMMAND_KIND_RETRIABLE {
		return
	}
	step := p.machine.saga.Step(scheduled.GetStep())
	for s := t.scope; s != nil; s = s.parent.scope {
		s.noReturn = append(s.noReturn, step)
	}
}

// deliverStep delivers the outcome of a step.
func (p *program) deliverStep(path string) {
	step := p.machine.saga.Step(path)
	call := CallResult{Reply: step.Reply, Failure: step.Failure}
	if step.State == treatyv1.StepState_STEP_STATE_UNKNOWN {
		call.Unknown = true
		if call.Failure == nil {
			call.Failure = &treatyv1.Failure{Code: int32(codes.DeadlineExceeded), Message: "the outcome is unknown"}
		}
	}
	p.deliver(path, result{call: call})
}

// deliver delivers the result of the operation at a path, and runs its thread.
func (p *program) deliver(path string, r result) {
	if p.halted() {
		return
	}
	i := slices.IndexFunc(p.waiting, func(t *Thread) bool { return t.opPath == path && t.scheduled })
	if i < 0 {
		return
	}
	t := p.waiting[i]
	p.waiting = slices.Delete(p.waiting, i, i+1)
	if t.stopping {
		p.unwind(t)
		p.runReady()
		return
	}
	t.result = r
	p.run(t)
}

// resumeCompensatedScopes runs the code after each scope whose steps are all compensated. It is called when the
// compensation of a step is done.
func (p *program) resumeCompensatedScopes(path string) {
	for _, s := range slices.Clone(p.scopes) {
		if !s.ended || !s.decided || !strings.HasPrefix(path, s.prefix()) {
			continue
		}
		if s.due = true; p.machine.scopeCompensated(s) {
			p.resumeParent(s)
		}
	}
	p.runReady()
}
