package machine

import (
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// program is saga code on its way: its threads, of which one runs at a time and only when something is delivered to it. What it does depends
// on nothing but its code and the order of what is delivered, so that a replay comes to the same.
type program struct {
	machine *Machine
	main    *Thread
	running *Thread   // whose code runs at this moment
	ready   []*Thread // whose code can go on, in order
	waiting []*Thread // who wait for something outside, in the order in which they asked
	scopes  []*scope  // that have begun and not ended, in the order in which they began

	// What the code brought about since the last record that tells it.

	progress  *anypb.Any
	versions  []*treatyv1.VersionChosen
	stoppedWaits []string // waits whose threads were stopped
	abandoned []*Step  // steps whose threads are stopped
	restart   *restart
	panicked  string
	versionMismatch     *treatyv1.SagaSuspended // why the code can't go by a version
	live      int                     // branches that have begun and not ended
}

// halted says whether the code goes no further: it panicked, can't go by a version, or has too many branches at once.
func (p *program) halted() bool { return p.panicked != "" || p.versionMismatch != nil || p.live > maxBranches }

// scope is a place in saga code where branches run.
type scope struct {
	path      string
	parent    *Thread
	branches  *Branches
	broadcast bool

	begun, live int
	threads     []*Thread // live ones
	failed      int
	failure     *treatyv1.Failure
	expired     bool
	stopping    bool

	opened   bool // its deadline is recorded
	deadline time.Time

	ended   bool // its branches have ended
	decided bool // that its steps are undone is recorded
	due     bool // it is to be looked up what of it is undone next

	noReturn []*Step // its pivots and retriable commands, also those of scopes in it
}

// prefix begins the path of everything in the scope.
func (s *scope) prefix() string { return s.path + "." }

func newProgram(m *Machine, code Code, request []byte) *program {
	p := &program{machine: m}
	p.main = &Thread{machine: m, program: p, path: m.saga.root()}
	p.main.start(func() { p.main.reply, p.main.failure = code(p.main, request) })
	return p
}

// run lets a thread go on, and whatever can go on in consequence, until everybody waits.
func (p *program) run(t *Thread) {
	p.ready = append(p.ready, t)
	p.runReady()
}

func (p *program) runReady() {
	for len(p.ready) > 0 && !p.halted() {
		t := p.ready[0]
		p.ready = slices.Delete(p.ready, 0, 1)
		t.op = nil
		p.running = t
		_, waits := t.next()
		p.running = nil
		if !waits || t.lost {
			p.threadEnded(t)
			continue
		}
		if s, branches := t.op.(*scope); branches {
			p.openScope(s)
			continue
		}
		p.waiting = append(p.waiting, t)
	}
}

// openScope begins a scope.
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

// startBranch begins the scope's next branch.
func (p *program) startBranch(s *scope) {
	branch := s.begun
	t := &Thread{machine: p.machine, program: p, scope: s, branch: branch, path: s.prefix() + strconv.Itoa(branch+1) + "."}
	t.start(func() { t.failure = s.branches.Body(branch, t) })
	s.begun++
	s.live++
	p.live++
	s.threads = append(s.threads, t)
	p.ready = append(p.ready, t)
}

// threadEnded takes a thread whose code has ended.
func (p *program) threadEnded(t *Thread) {
	t.ended, t.op = true, nil
	if t.panicked != "" {
		p.panicked = t.panicked
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
	case t.failure != nil && !t.stopped && !s.stopping:
		s.failed, s.failure = t.branch, t.failure
		p.stopScope(s)
	case !s.stopping && s.begun < s.branches.Count:
		p.startBranch(s)
	}
	p.closeScope(s)
}

// closeScope ends a scope once all its branches have ended. One that is to be undone stays open until it is.
func (p *program) closeScope(s *scope) {
	if s.live > 0 || s.ended {
		return
	}
	s.ended = true
	if s.branches.Undo && s.failure != nil && !p.machine.scopeCompensated(s) {
		return
	}
	p.resumeParent(s)
}

// resumeParent hands a scope's end to the code that waits for it.
func (p *program) resumeParent(s *scope) {
	p.scopes = slices.DeleteFunc(p.scopes, func(other *scope) bool { return other == s })
	t := s.parent
	if t.stopping {
		p.unwind(t)
		return
	}
	t.answer = answer{branches: BranchesResult{Failed: s.failed, Expired: s.expired}}
	p.ready = append(p.ready, t)
}

// stopScope stops a scope's branches: those that are in flight once that has ended, the others at once.
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
	if i := slices.Index(p.ready, t); i >= 0 { // it didn't get to go on
		p.ready = slices.Delete(p.ready, i, i+1)
		p.unwind(t)
		return
	}
	switch op := t.op.(type) {
	case *scope:
		t.stopping = true
		if !op.stopping {
			// A scope is whole or undone, also when the code around it takes the failure beside it in its stride.
			if op.branches.Undo && p.machine.scopeNoReturn(op) == nil {
				op.failure = &treatyv1.Failure{Code: int32(codes.Aborted), Message: "what ran beside the scope failed, so it was stopped"}
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

// abandon sees to it that a step isn't tried any more. One that must be done is.
func (p *program) abandon(path string) {
	step := p.machine.saga.Step(path)
	if step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE {
		return
	}
	step.abandoned = true
	p.abandoned = append(p.abandoned, step)
}

// unwind ends a thread's code where it is.
func (p *program) unwind(t *Thread) {
	t.unwind()
	p.threadEnded(t)
}

// expireScope stops a scope whose time is up.
func (p *program) expireScope(s *scope) {
	s.expired = true
	s.failure = &treatyv1.Failure{Code: int32(codes.DeadlineExceeded), Message: "the scope's deadline passed"}
	p.stopScope(s)
	p.closeScope(s)
	p.runReady()
}

// deliver hands the end of what a thread waits for to it.
func (p *program) deliver(path string, end answer) {
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
	t.answer = end
	p.run(t)
}

// unscheduled returns the thread that waits for what has the path and isn't recorded yet; nil when there is none.
func (p *program) unscheduled(path string) *Thread {
	for _, t := range p.waiting {
		if !t.scheduled && t.opPath == path {
			return t
		}
	}
	return nil
}

// scopeOf returns the open scope of a path; nil when there is none.
func (p *program) scopeOf(path string) *scope {
	for _, s := range p.scopes {
		if s.path == path {
			return s
		}
	}
	return nil
}

// stopAll ends all code, the innermost first.
func (p *program) stopAll() {
	for _, s := range slices.Backward(p.scopes) {
		for _, t := range s.threads {
			t.unwind()
		}
	}
	p.main.unwind()
}

// parallelScope returns the innermost scope whose branches run side by side that a thread is in; nil when there is none. How many branches there
// happen to be doesn't count, nor do those of a broadcast, whose steps are one command.
func (p *program) parallelScope(t *Thread) *scope {
	for s := t.scope; s != nil; s = s.parent.scope {
		if !s.branches.Undo && !s.broadcast {
			return s
		}
	}
	return nil
}
