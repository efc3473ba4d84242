package machine

import (
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/coroutine"
)

// program is the running code of a saga. One of its threads runs at a time, and only when a result is delivered to it.
// What it does depends only on the code and the order of the deliveries, so a replay has the same effect.
type program struct {
	machine *Machine
	main    *Thread
	running *Thread   // the thread whose code runs now, or nil
	ready   []*Thread // threads that can run, in order
	waiting []*Thread // threads that wait for a result, in the order in which they asked
	scopes  []*scope  // open scopes, in the order in which they were opened

	// What the code has set since the last flush.

	progress     *anypb.Any
	versions     []*treatyv1.VersionChosen
	stoppedWaits []string // the scheduled waits of threads that were stopped
	abandoned    []*Step  // the open steps of threads that are stopping

	restart         *restart
	panicked        string
	misused         bool                    // panicked is about another goroutine
	broken          string                  // the rule that the code broke when it ended
	stuck           *stuck                  // the code was left behind
	versionMismatch *treatyv1.SagaSuspended // the code doesn't know a version in the journal
	live            int                     // the number of branches that haven't ended
}

// group is the coroutines of the saga.
func (p *program) group() *coroutine.Group { return p.machine.config.Coroutines }

// halted reports whether the code can't continue: it panicked, broke a rule, was left behind, doesn't know a version,
// or has too many branches.
func (p *program) halted() bool {
	return p.panicked != "" || p.broken != "" || p.stuck != nil || p.versionMismatch != nil || p.live > maxBranches
}

// noteMisuse halts code that used its Context on another goroutine.
func (p *program) noteMisuse() {
	if message := p.group().Misuse(); message != "" {
		p.misuse(message)
	}
}

func (p *program) misuse(message string) { p.panicked, p.misused = message, true }

// scope is a place in saga code that runs branches.
type scope struct {
	path      string
	parent    *Thread
	branches  *Branches
	broadcast bool

	started, live int       // the numbers of branches
	threads       []*Thread // those of live branches
	failed        int       // the branch that failed first, or -1
	failure       *treatyv1.Failure
	expired       bool // its deadline passed
	stopping      bool // its branches are being stopped

	opened   bool // its deadline is recorded
	deadline time.Time

	ended   bool // its branches have ended
	decided bool // the decision to compensate it is recorded
	due     bool // its next compensations must be scheduled

	noReturn []*Step // the pivots and retriable commands in it
}

// prefix is the prefix of all paths in the scope.
func (s *scope) prefix() string { return s.path + "." }

func newProgram(m *Machine, code Code, request []byte) *program {
	p := &program{machine: m}
	p.main = &Thread{machine: m, program: p, path: m.saga.root()}
	p.main.start(func() ([]byte, *treatyv1.Failure) { return code(p.main, request) })
	return p
}

// run runs a thread, and the threads that become ready, until all wait.
func (p *program) run(t *Thread) {
	p.ready = append(p.ready, t)
	p.runReady()
}

func (p *program) runReady() {
	p.group().Enter()
	defer p.group().Leave()
	for len(p.ready) > 0 && !p.halted() {
		t := p.ready[0]
		p.ready = slices.Delete(p.ready, 0, 1)
		t.op = nil
		p.running = t
		result := t.coroutine.Resume()
		p.running = nil
		p.noteMisuse()
		switch s, branches := t.op.(*scope); {
		case result == coroutine.Left:
			p.threadLeft(t)
		case result == coroutine.Ended:
			p.threadEnded(t)
		case branches:
			p.openScope(s)
		default:
			p.waiting = append(p.waiting, t)
		}
	}
}

// threadLeft is called when the code of a thread was left behind, or wasn't resumed.
func (p *program) threadLeft(t *Thread) {
	t.ended, t.op = true, nil
	switch {
	case p.halted():
	case t.end.panicked != "":
		p.panicked = t.end.panicked
	case t.coroutine.Behind():
		p.stuck = &stuck{place: t.coroutine.Where(), after: p.machine.lastStep()}
	default:
		p.stuck = &stuck{loops: true, after: p.machine.lastStep()}
	}
}

func (p *program) openScope(s *scope) {
	p.scopes = append(p.scopes, s)
	atOnce := s.branches.Count
	if s.branches.AtOnce > 0 {
		atOnce = min(atOnce, s.branches.AtOnce)
	}
	for range atOnce {
		if p.startBranch(s); p.halted() {
			return
		}
	}
	p.closeScope(s)
}

// startBranch starts the scope's next branch.
func (p *program) startBranch(s *scope) {
	branch := s.started
	path := s.prefix() + strconv.Itoa(branch+1) + "."
	t := &Thread{machine: p.machine, program: p, scope: s, branch: branch, path: path}
	t.start(func() ([]byte, *treatyv1.Failure) { return nil, s.branches.Body(branch, t) })
	s.started++
	s.live++
	p.live++
	s.threads = append(s.threads, t)
	p.ready = append(p.ready, t)
}

// threadEnded is called when the code of a thread has ended.
func (p *program) threadEnded(t *Thread) {
	t.ended, t.op = true, nil
	if t.end.panicked != "" || t.end.broken != "" {
		p.panicked, p.broken = t.end.panicked, t.end.broken
		return
	}
	s := t.scope
	if s == nil {
		return
	}
	s.live--
	p.live--
	s.threads = slices.DeleteFunc(s.threads, func(other *Thread) bool { return other == t })
	switch {
	case t.end.failure != nil && !t.stopped && !s.stopping:
		s.failed, s.failure = t.branch, t.end.failure
		p.stopScope(s)
	case !s.stopping && s.started < s.branches.Count:
		p.startBranch(s)
	}
	p.closeScope(s)
}

// closeScope ends a scope if all its branches have ended. A scope that must be compensated stays open until it is.
func (p *program) closeScope(s *scope) {
	if s.live > 0 || s.ended {
		return
	}
	s.ended = true
	if s.branches.Compensate && s.failure != nil && !p.machine.scopeCompensated(s) {
		return
	}
	p.resumeParent(s)
}

// resumeParent delivers the result of a scope to its parent.
func (p *program) resumeParent(s *scope) {
	p.scopes = slices.DeleteFunc(p.scopes, func(other *scope) bool { return other == s })
	t := s.parent
	if t.stopping {
		p.unwind(t)
		return
	}
	t.result = result{branches: BranchesResult{Failed: s.failed, Expired: s.expired}}
	p.ready = append(p.ready, t)
}

// stopScope stops the branches of a scope. A branch with a command in flight stops when the command has ended.
func (p *program) stopScope(s *scope) {
	s.stopping = true
	for _, t := range slices.Clone(s.threads) {
		p.stopThread(t)
	}
}

func (p *program) stopThread(t *Thread) {
	if t.ended || t.stopping {
		return
	}
	if i := slices.Index(p.ready, t); i >= 0 {
		p.ready = slices.Delete(p.ready, i, i+1)
		p.unwind(t)
		return
	}
	switch op := t.op.(type) {
	case *scope:
		t.stopping = true
		if !op.stopping {
			// A stopped scope must be compensated even if the code around it handles the failure of the parallel
			// branch.
			if op.branches.Compensate && p.machine.scopeNoReturn(op) == nil {
				op.failure = &treatyv1.Failure{
					Code: int32(codes.Aborted), Message: "the scope was stopped because a parallel branch failed",
				}
			}
			p.stopScope(op)
			p.closeScope(op)
		}
		return
	case *Call:
		if t.scheduled {
			t.stopping = true
			p.abandon(t.opPath)
			return
		}
	case *Wait:
		if t.scheduled {
			p.stoppedWaits = append(p.stoppedWaits, t.opPath)
		}
	}
	p.waiting = slices.DeleteFunc(p.waiting, func(other *Thread) bool { return other == t })
	p.unwind(t)
}

// abandon stops the attempts for a step, unless its command is retriable.
func (p *program) abandon(path string) {
	step := p.machine.saga.Step(path)
	if step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE {
		return
	}
	step.abandoned = true
	p.abandoned = append(p.abandoned, step)
}

// unwind ends the code of a thread where it waits.
func (p *program) unwind(t *Thread) {
	if t.unwind() {
		p.threadEnded(t)
	} else {
		p.threadLeft(t)
	}
}

// expireScope stops a scope whose deadline passed.
func (p *program) expireScope(s *scope) {
	s.expired = true
	s.failure = &treatyv1.Failure{Code: int32(codes.DeadlineExceeded), Message: "the scope's deadline passed"}
	p.stopScope(s)
	p.closeScope(s)
	p.runReady()
}

// unscheduled returns the thread that waits for the operation at a path, if the operation isn't recorded yet, or nil.
func (p *program) unscheduled(path string) *Thread {
	for _, t := range p.waiting {
		if !t.scheduled && t.opPath == path {
			return t
		}
	}
	return nil
}

// scopeOf returns the open scope at a path, or nil.
func (p *program) scopeOf(path string) *scope {
	for _, s := range p.scopes {
		if s.path == path {
			return s
		}
	}
	return nil
}

// stopAll unwinds all threads, the innermost first.
func (p *program) stopAll() {
	p.group().Enter()
	defer p.group().Leave()
	for _, s := range slices.Backward(p.scopes) {
		for _, t := range s.threads {
			t.unwind()
		}
	}
	p.main.unwind()
}

// parallelScope returns the innermost scope around a thread whose branches run in parallel, or nil. It ignores
// broadcasts, which are one command, and counts a scope with a single branch, because the number of branches may vary.
func (p *program) parallelScope(t *Thread) *scope {
	for s := t.scope; s != nil; s = s.parent.scope {
		if !s.branches.Compensate && !s.broadcast {
			return s
		}
	}
	return nil
}
