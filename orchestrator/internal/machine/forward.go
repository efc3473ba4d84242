package machine

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// applyToCode tells the code of a record.
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

func (p *program) apply(record any) {
	switch r := record.(type) {
	case *treatyv1.Record_StepScheduled:
		p.noteNoReturn(p.markScheduled(r.StepScheduled.GetStep()), r.StepScheduled)
	case *treatyv1.Record_WaitScheduled:
		p.markScheduled(r.WaitScheduled.GetWait())
	case *treatyv1.Record_BroadcastScheduled:
		p.markScheduled(r.BroadcastScheduled.GetBroadcast())
		p.deliver(r.BroadcastScheduled.GetBroadcast(), answer{names: r.BroadcastScheduled.GetParticipants()})
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
			p.stoppedWaits = slices.DeleteFunc(p.stoppedWaits, func(path string) bool { return path == r.WaitEnded.GetWait() })
			return
		}
		p.deliver(r.WaitEnded.GetWait(), answer{wait: WaitResult{Event: r.WaitEnded.GetEvent()}})
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

func (p *program) markScheduled(path string) *Thread {
	t := p.unscheduled(path)
	if t != nil {
		t.scheduled = true
	}
	return t
}

// bar tells the scopes that a step is in of it if it may keep them from being stopped.
func (p *program) noteNoReturn(t *Thread, scheduled *treatyv1.StepScheduled) {
	if kind := scheduled.GetKind(); t == nil || kind != treatyv1.CommandKind_COMMAND_KIND_PIVOT && kind != treatyv1.CommandKind_COMMAND_KIND_RETRIABLE {
		return
	}
	step := p.machine.saga.Step(scheduled.GetStep())
	for s := t.scope; s != nil; s = s.parent.scope {
		s.noReturn = append(s.noReturn, step)
	}
}

// deliverStep hands the end of a step to the code.
func (p *program) deliverStep(path string) {
	step := p.machine.saga.Step(path)
	result := CallResult{Reply: step.Reply, Failure: step.Failure}
	if step.State == treatyv1.StepState_STEP_STATE_UNKNOWN {
		result.Unknown = true
		if result.Failure == nil {
			result.Failure = &treatyv1.Failure{Code: int32(codes.DeadlineExceeded), Message: "the outcome is unknown"}
		}
	}
	p.deliver(path, answer{step: result})
}

// resumeCompensatedScopes goes on behind scopes of which nothing is left to undo.
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

// forward does what the code asks for.
func (m *Machine) forward() {
	for m.saga.State == treatyv1.SagaState_SAGA_STATE_RUNNING && m.advance() { //nolint:revive // each call goes on where the one before came to
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
		m.suspend(m.mismatch)
		m.mismatch = nil
		return false
	case p == nil:
		m.suspend(&treatyv1.SagaSuspended{
			Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_NO_CODE,
			Message: fmt.Sprintf("this orchestrator has no code for %s; start one that registers it and resume, or cancel the saga, which needs no code",
				m.saga.Started.GetDefinition()),
		})
		return false
	case p.versionMismatch != nil:
		m.suspend(p.versionMismatch)
		return false
	case p.live > maxBranches:
		m.suspendForRule("", "the saga", fmt.Sprintf("more than %d branches of it have begun and not ended; let saga.Each do fewer at once", maxBranches), "")
		return false
	}
	m.flush()
	switch {
	case p.panicked != "":
		m.suspend(&treatyv1.SagaSuspended{
			Reason:  treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC,
			Message: fmt.Sprintf("the saga's code panicked %s: %s; mend the code and resume%s", m.where(), p.panicked, m.orCancel()),
		})
		return false
	case p.main.ended && p.restart != nil:
		return m.restart()
	case p.main.ended && p.main.failure != nil:
		m.fail(p.main.failure)
		return false
	case p.main.ended:
		m.succeed(p.main.reply)
		return false
	case m.deadlinePassed():
		m.compensateForDeadline()
		return false
	}
	return m.expireNextScope() || m.endNextDueWait() || m.compensateScopes() || m.scheduleNext()
}

// flush records what the code says along the way.
func (m *Machine) flush() {
	p := m.program
	for _, chosen := range p.versions {
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_VersionChosen{VersionChosen: chosen}})
	}
	p.versions = nil
	if p.progress != nil {
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_ProgressSet{ProgressSet: &treatyv1.ProgressSet{Progress: p.progress}}})
		p.progress = nil
	}
	for _, path := range slices.Clone(p.stoppedWaits) {
		m.record(&treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{
			Wait: path, How: &treatyv1.WaitEnded_Stopped_{Stopped: &treatyv1.WaitEnded_Stopped{}},
		}}})
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

// expireNextScope stops a scope whose time is up.
func (m *Machine) expireNextScope() bool {
	for _, s := range m.program.scopes {
		if due := m.scopeDue(s); !due.IsZero() && !due.After(m.now) {
			m.record(&treatyv1.Record{Kind: &treatyv1.Record_ScopeExpired{ScopeExpired: &treatyv1.ScopeExpired{Scope: s.path}}})
			return true
		}
	}
	return false
}

// scopeDue is when a scope's time is up; zero when it has no end, or must not be stopped any more.
func (m *Machine) scopeDue(s *scope) time.Time {
	if !s.opened || s.ended || s.stopping || m.scopeNoReturn(s) != nil {
		return time.Time{}
	}
	return s.deadline
}

// scopeNoReturn returns a step because of which a scope can't be stopped: a pivot that is done or under way, or a retriable command.
func (m *Machine) scopeNoReturn(s *scope) *Step {
	for _, step := range s.noReturn {
		if step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE ||
			step.State == treatyv1.StepState_STEP_STATE_DONE || step.State == treatyv1.StepState_STEP_STATE_SCHEDULED {
			return step
		}
	}
	return nil
}

// endNextDueWait ends a wait whose moment has come.
func (m *Machine) endNextDueWait() bool {
	for _, wait := range m.saga.Waits {
		if due := wait.Scheduled.GetDue(); due != nil && !due.AsTime().After(m.now) {
			m.record(&treatyv1.Record{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{
				Wait: wait.Scheduled.GetWait(), How: &treatyv1.WaitEnded_Due_{Due: &treatyv1.WaitEnded_Due{}},
			}}})
			return true
		}
	}
	return false
}

// scheduleNext records what the code waits for, or why it must not.
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
			return m.schedule(t, op)
		case *Wait:
			return m.await(t, op)
		case *Broadcast:
			if rule := m.checkBroadcast(t, op); rule != "" {
				m.suspendForRule(t.opPath, "broadcast "+t.opPath, rule, op.Method)
				return false
			}
		}
	}
	return false
}

func (m *Machine) suspendForRule(path, what, rule, found string) {
	m.suspend(&treatyv1.SagaSuspended{
		Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_RULE, Step: path,
		Message: fmt.Sprintf("%s is against the rules: %s; mend the code and resume%s", what, rule, m.orCancel()),
		Found:   strings.TrimSpace(what + " " + found),
	})
}

// schedule intends the step that the code asks for, if the rules of the saga language allow it.
func (m *Machine) schedule(t *Thread, call *Call) bool {
	command, known := m.config.Command(call.Method)
	if rule := m.checkCall(t, command, known, call); rule != "" {
		m.suspendForRule(t.opPath, "step "+t.opPath, rule, call.Method)
		return false
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{
		Step: t.opPath, Method: call.Method, Request: call.Request, Kind: command.Kind, Compensation: command.Compensation.Plan(),
		Participant: call.Participant,
	}}})
	m.effects = append(m.effects, Effect{Step: m.saga.Step(t.opPath), Direction: Action})
	return true
}

// await intends to wait.
func (m *Machine) await(t *Thread, wait *Wait) bool {
	if rule := m.checkWait(wait); rule != "" {
		m.suspendForRule(t.opPath, "wait "+t.opPath, rule, "")
		return false
	}
	scheduled := &treatyv1.WaitScheduled{Wait: t.opPath, Events: wait.Events}
	if !wait.Until.IsZero() {
		scheduled.Due = timestamppb.New(ceil(wait.Until))
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_WaitScheduled{WaitScheduled: scheduled}})
	return true
}

// ceil rounds up to the microsecond, so that no timer fires early.
func ceil(t time.Time) time.Time {
	if cut := t.Truncate(time.Microsecond); cut.Before(t) {
		return cut.Add(time.Microsecond)
	}
	return t
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
	m.startCompensation(&treatyv1.CompensationDecided{Cause: treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED, Failure: failure})
}

// succeed ends a saga whose code returned a reply. A step whose unknown outcome the code took in its stride may have run, so it is
// undone first.
func (m *Machine) succeed(reply []byte) {
	if m.compensateNext(isUnknown) {
		return
	}
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaSucceeded{SagaSucceeded: &treatyv1.SagaSucceeded{Reply: reply}}})
}

func isUnknown(step *Step) bool { return step.State == treatyv1.StepState_STEP_STATE_UNKNOWN }

// restart ends a round and begins the next. What the round left unknown is undone first. The new journal begins with a turn of its
// own.
func (m *Machine) restart() bool {
	switch parent := m.saga.Started.GetParent(); {
	case parent.GetKind() == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE:
		m.suspendForRule("", "the restart", "the saga is a step that its parent can undo, and what came before a restart can't be undone; "+
			"end it instead, or give its definition another kind", "")
		return false
	case len(m.saga.Steps)+m.saga.unstepped == 0:
		m.suspendForRule("", "the restart", "the round did nothing, so the next one would do nothing either, and so on without an end; "+
			"let each round have a step or a wait, e.g. saga.Sleep", "")
		return false
	case len(m.program.restart.request) > MaxPayloadBytes:
		m.suspendForRule("", "the restart", fmt.Sprintf("its request has %d bytes, and %d are allowed; keep what is long elsewhere, and hand on where it is",
			len(m.program.restart.request), MaxPayloadBytes), "")
		return false
	case m.compensateNext(isUnknown):
		return false
	case len(m.records) > 0:
		m.again = true
		return false
	}
	started := m.restartRecord(m.program.restart.request)
	m.record(&treatyv1.Record{Kind: &treatyv1.Record_SagaRestarted{SagaRestarted: started}})
	m.newRound = true
	return true
}

func (m *Machine) restartRecord(request []byte) *treatyv1.SagaRestarted {
	old := m.saga.Started
	// The seed of another round is another one, and the same in every replay.
	next := &treatyv1.SagaStarted{
		Definition: old.GetDefinition(), Request: request, RequestId: old.GetRequestId(), Seed: old.GetSeed()*6364136223846793005 + 1442695040888963407,
		Labels: old.GetLabels(), Trace: old.GetTrace(), Parent: old.GetParent(),
	}
	if allowed := m.saga.allowed(); allowed > 0 {
		next.Deadline = timestamppb.New(m.now.Add(allowed))
	}
	restarted := &treatyv1.SagaRestarted{
		Started: next, Round: m.saga.Round + 1, CreateTime: timestamppb.New(m.saga.CreateTime), Progress: m.saga.Progress,
		RoundTime: timestamppb.New(m.now), FirstRequest: m.saga.FirstRequest,
	}
	for key, position := range m.saga.taken {
		restarted.EventsTaken = append(restarted.EventsTaken, &treatyv1.EventTaken{
			Key: &treatyv1.EventKey{Type: key.typ, Subject: key.subject}, Position: position,
		})
	}
	slices.SortFunc(restarted.EventsTaken, func(a, b *treatyv1.EventTaken) int {
		return strings.Compare(a.GetKey().GetType()+"\x00"+a.GetKey().GetSubject(), b.GetKey().GetType()+"\x00"+b.GetKey().GetSubject())
	})
	return restarted
}

func (m *Machine) deadlinePassed() bool {
	due := m.deadline()
	return !due.IsZero() && !due.After(m.now) && m.saga.pivotInFlight() == nil
}

func (m *Machine) compensateForDeadline() {
	m.startCompensation(&treatyv1.CompensationDecided{
		Cause:   treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE,
		Failure: &treatyv1.Failure{Code: int32(codes.DeadlineExceeded), Message: "the saga's deadline passed"},
	})
}
