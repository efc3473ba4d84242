package machine

import (
	"fmt"
	"iter"
	"runtime"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Code is a saga definition's code as the machine runs it: it is called on a coroutine, asks for steps through the thread, and returns
// the serialized reply, or the failure that the saga ends with.
type Code func(thread *Thread, request []byte) (reply []byte, failure *treatyv1.Failure)

// Call is one command that saga code asks for.
type Call struct {
	// Method is the command's method, e.g. "acme.customer.v1.CustomerService/ChangeAddress".
	Method string

	// Request is the serialized request.
	Request []byte

	// Participant names the participant of a broadcast's step; empty for every other step.
	Participant string

	// Same compares the request with a journaled one whose bytes differ: serializing is not stable over versions. Nil: the
	// bytes decide.
	Same func(journaled []byte) bool
}

// CallResult is what a step came to, as saga code sees it.
type CallResult struct {
	// Reply is the serialized reply; nil when the step failed.
	Reply []byte

	// Failure is the participant's status when the step failed.
	Failure *treatyv1.Failure

	// Unknown says that the step may have been executed all the same.
	Unknown bool
}

// Wait is a moment, or events, for which saga code waits.
type Wait struct {
	// Until is when the wait ends if no event comes; zero: never.
	Until time.Time

	// Events are what ends it earlier.
	Events []*treatyv1.EventKey
}

// WaitResult is how a wait ended.
type WaitResult struct {
	// Event is the event that came; nil when the moment did.
	Event *treatyv1.EventArrived
}

// Branches are parts of saga code that run side by side, or one part that can fail by itself.
type Branches struct {
	// Count is how many there are.
	Count int

	// AtOnce is how many run at once at the most; 0 means all.
	AtOnce int

	// Body is the code of one branch, counted from 0. A failure stops the others before their next command.
	Body func(branch int, thread *Thread) *treatyv1.Failure

	// Undo says that the steps of the branches are undone when one fails, and the saga goes on.
	Undo bool

	// Within is how long they may take; 0 means without end.
	Within time.Duration
}

// BranchesResult is how branches ended.
type BranchesResult struct {
	// Failed is the branch that failed first, counted from 0; -1 when none did.
	Failed int

	// Expired says that their time was up.
	Expired bool
}

// Thread is one line of execution in saga code. Its methods may only be called from that code, on its own coroutine.
type Thread struct {
	machine *Machine
	program *program
	scope   *scope // whose branch it is; nil for the main thread
	branch  int
	path    string // before the positions of what it asks for; empty for the main thread
	ops     int    // so far, for the paths of the next ones

	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool

	op       any    // *Call, *Wait, *Broadcast or *scope: what the code waits for; nil while it runs
	opPath   string // the path of what it waits for
	scheduled bool   // that it waits for it is recorded
	stopping bool   // it is stopped once what it waits for has ended
	stopped  bool   // its code doesn't run any more
	ended    bool
	lost     bool // its code left by runtime.Goexit; its coroutine is parked for good

	answer   answer
	reply    []byte
	failure  *treatyv1.Failure
	panicked string // what and where; empty when the code returned
}

// answer is the end of what a thread waited for: the field that fits what it asked is set.
type answer struct {
	step     CallResult
	wait     WaitResult
	branches BranchesResult
	names    []string
}

// unwind is what leaves saga code when its coroutine is stopped.
type unwind struct{}

// Call asks for a step and waits until it has ended.
func (t *Thread) Call(call *Call) CallResult {
	return t.wait(call, t.nextPath()).step
}

// Wait waits for a moment or an event.
func (t *Thread) Wait(wait *Wait) WaitResult {
	return t.wait(wait, t.nextPath()).wait
}

// Branch runs branches and waits until all have ended. Each has a thread of its own, which its code must use.
func (t *Thread) Branch(branches *Branches) BranchesResult {
	return t.enter(&scope{path: t.nextPath(), branches: branches})
}

func (t *Thread) enter(s *scope) BranchesResult {
	s.parent, s.failed = t, -1
	return t.wait(s, s.path).branches
}

// Broadcast is a command that goes to everybody who serves it.
type Broadcast struct {
	// Method is the command's method.
	Method string
}

// Broadcast finds out to which participants a command goes, and runs a branch for each of them. The names of the participants are in the
// order of the branches.
func (t *Thread) Broadcast(broadcast *Broadcast, body func(participant string, thread *Thread) *treatyv1.Failure) ([]string, BranchesResult) {
	path := t.nextPath()
	names := t.wait(broadcast, path).names
	branches := &Branches{Count: len(names), Body: func(branch int, thread *Thread) *treatyv1.Failure {
		return body(names[branch], thread)
	}}
	return names, t.enter(&scope{path: path, branches: branches, broadcast: true})
}

// nextPath is the path of what is asked for next.
func (t *Thread) nextPath() string {
	t.ops++
	return t.path + strconv.Itoa(t.ops)
}

// misuse is what a thread panics with whose code isn't running.
const misuse = "a Context was used outside the function that it was handed to: within a branch or a scope, use the Context that its function takes"

func (t *Thread) wait(op any, path string) answer {
	if running := t.program.running; running != t {
		if t.stopped && running == nil { // its own code, on its way out
			panic(unwind{})
		}
		panic(misuse)
	}
	t.op, t.opPath, t.scheduled = op, path, false
	if !t.yield(struct{}{}) {
		t.stopped = true
		panic(unwind{})
	}
	return t.answer
}

// Saga is the saga's id.
func (t *Thread) Saga() string { return t.machine.saga.ID }

// Started is how the saga was started, or started anew.
func (t *Thread) Started() *treatyv1.SagaStarted { return t.machine.saga.Started }

// Path is the thread's path; empty for the main thread.
func (t *Thread) Path() string { return t.path }

// Now is the time of the turn that the code runs in: the same in every replay.
func (t *Thread) Now() time.Time { return t.machine.now }

// Environment is what the machine was made with.
func (t *Thread) Environment() any { return t.machine.config.Environment }

// Replaying says whether the code runs to come where its journal is, so that nothing it says is new.
func (t *Thread) Replaying() bool { return t.machine.replaying }

// SetProgress says how far the saga has come. It is recorded with the turn; the last one of a turn counts. In a replay it does
// nothing.
func (t *Thread) SetProgress(progress *anypb.Any) {
	if !t.machine.replaying && !t.stopped {
		t.program.progress = progress
	}
}

// Version returns the version of a change that the saga goes by: the latest when it asks for the first time, 0 when it came by before the change
// was made.
func (t *Thread) Version(change string, latest int32) int32 {
	return t.machine.chooseVersion(change, latest)
}

// Abort ends the code with what it did wrong, as a panic does: the saga is suspended. It doesn't return.
func (t *Thread) Abort(wrong string) { panic(wrong) }

// Restart says that the saga is to begin anew with another request once its code has returned.
func (t *Thread) Restart(request []byte) { t.program.restart = &restart{request: request} }

// restart is how a saga begins anew.
type restart struct{ request []byte }

// start makes the thread's coroutine. It doesn't run yet.
func (t *Thread) start(code func()) {
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		returned := false
		defer func() {
			switch v := recover().(type) {
			case nil:
				if !returned && !t.stopped {
					// Goexit would go on in whoever runs the machine, so this coroutine never ends.
					t.panicked, t.lost = describePanic("runtime.Goexit was called"), true
					yield(struct{}{})
				}
			case unwind:
			default:
				t.panicked = describePanic(v)
			}
		}()
		code()
		returned = true
	})
}

// unwind ends the thread's code where it is.
func (t *Thread) unwind() {
	t.stopped = true
	if !t.lost {
		t.stop()
	}
}

// describePanic names the panic and the first line of code that isn't plumbing. It runs in the deferred function, where the
// panicking frames are still on the stack.
func describePanic(v any) string {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !isPlumbing(frame) {
			file := frame.File[strings.LastIndexByte(frame.File, '/')+1:]
			return fmt.Sprintf("%v (at %s:%d)", v, file, frame.Line)
		}
		if !more {
			return fmt.Sprint(v)
		}
	}
}

// isPlumbing says whether a frame lies between saga code and the machine.
func isPlumbing(frame runtime.Frame) bool {
	return strings.HasPrefix(frame.Function, "runtime.") || strings.Contains(frame.Function, "/machine.(*Thread).") ||
		strings.Contains(frame.Function, "/orchestrator/saga.") || strings.HasSuffix(frame.File, ".treaty.go")
}
