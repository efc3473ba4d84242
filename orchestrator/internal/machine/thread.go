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

// Thread runs one line of saga code: the main function, or a branch. Only that code may call its methods, on its own
// coroutine.
type Thread struct {
	machine *Machine
	program *program
	scope   *scope // the scope of a branch; nil for the main thread
	branch  int
	path    string // the prefix of the paths of its operations
	ops     int    // how many operations it has performed

	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool

	op        any    // the operation that the code waits for: *Call, *Wait, *Broadcast or *scope, or nil
	opPath    string // the path of op
	scheduled bool   // op is recorded
	stopping  bool   // the thread stops when op has ended
	stopped   bool   // the code was unwound
	ended     bool   // the code has ended
	lost      bool   // the code called runtime.Goexit; its coroutine never ends

	result   result
	reply    []byte
	failure  *treatyv1.Failure
	panicked string // the panic and where it happened; empty if there was none
}

// result is the result of an operation. The field for the kind of the operation is set.
type result struct {
	call     CallResult
	wait     WaitResult
	branches BranchesResult
	names    []string
}

// unwinding is the panic that leaves saga code when its coroutine is stopped.
type unwinding struct{}

// Call sends a command and waits until its step has ended.
func (t *Thread) Call(call *Call) CallResult {
	return t.perform(call, t.nextPath()).call
}

// Wait waits for a time or an event.
func (t *Thread) Wait(wait *Wait) WaitResult {
	return t.perform(wait, t.nextPath()).wait
}

// Branch runs branches and waits until all have ended. Each has its own thread, which its code must use.
func (t *Thread) Branch(branches *Branches) BranchesResult {
	return t.enter(&scope{path: t.nextPath(), branches: branches})
}

func (t *Thread) enter(s *scope) BranchesResult {
	s.parent, s.failed = t, -1
	return t.perform(s, s.path).branches
}

// Broadcast finds out which participants serve a command, and runs a branch for each. It returns the names of the
// participants in the order of the branches.
func (t *Thread) Broadcast(
	broadcast *Broadcast, body func(participant string, thread *Thread) *treatyv1.Failure,
) ([]string, BranchesResult) {
	path := t.nextPath()
	names := t.perform(broadcast, path).names
	branches := &Branches{Count: len(names), Body: func(branch int, thread *Thread) *treatyv1.Failure {
		return body(names[branch], thread)
	}}
	return names, t.enter(&scope{path: path, branches: branches, broadcast: true})
}

// nextPath returns the path of the next operation.
func (t *Thread) nextPath() string {
	t.ops++
	return t.path + strconv.Itoa(t.ops)
}

// misuse is the panic of a thread whose code isn't running.
const misuse = "a Context was used outside of the function that received it; " +
	"within a branch or a scope, use the Context that its function receives"

// perform waits for the result of an operation.
func (t *Thread) perform(op any, path string) result {
	if running := t.program.running; running != t {
		if t.stopped && running == nil { // a deferred function of code that is being unwound
			panic(unwinding{})
		}
		panic(misuse)
	}
	t.op, t.opPath, t.scheduled = op, path, false
	if !t.yield(struct{}{}) {
		t.stopped = true
		panic(unwinding{})
	}
	return t.result
}

// Saga returns the saga's id.
func (t *Thread) Saga() string { return t.machine.saga.ID }

// Started returns how the current round of the saga was started.
func (t *Thread) Started() *treatyv1.SagaStarted { return t.machine.saga.Started }

// Path returns the prefix of the paths of the thread's operations. It is empty for the main thread of the first round.
func (t *Thread) Path() string { return t.path }

// Now returns the time of the turn that the code runs in. It is the same in every replay.
func (t *Thread) Now() time.Time { return t.machine.now }

// Environment returns Config.Environment.
func (t *Thread) Environment() any { return t.machine.config.Environment }

// Replaying reports whether the code runs to recover the state of its journal, so that it does nothing new.
func (t *Thread) Replaying() bool { return t.machine.replaying }

// SetProgress records the saga's progress with the turn. The last call of a turn counts. In a replay it does nothing.
func (t *Thread) SetProgress(progress *anypb.Any) {
	if !t.machine.replaying && !t.stopped {
		t.program.progress = progress
	}
}

// Version returns the version of a change that the saga uses: latest when the code asks for the first time, and 0 if
// the saga passed this point before the change was made.
func (t *Thread) Version(change string, latest int32) int32 {
	return t.machine.chooseVersion(change, latest)
}

// Abort suspends the saga because of a mistake in its code. It panics with the message.
func (t *Thread) Abort(message string) { panic(message) }

// Restart makes the saga start a new round with a request when its code has returned.
func (t *Thread) Restart(request []byte) { t.program.restart = &restart{request: request} }

// restart is the request to start a new round.
type restart struct{ request []byte }

// start creates the thread's coroutine, which doesn't run yet.
func (t *Thread) start(code func()) {
	t.next, t.stop = iter.Pull(func(yield func(struct{}) bool) {
		t.yield = yield
		returned := false
		defer func() {
			switch v := recover().(type) {
			case nil:
				if !returned && !t.stopped {
					// Goexit would continue in the goroutine that runs the machine, so this coroutine never ends.
					t.panicked, t.lost = describePanic("runtime.Goexit was called"), true
					yield(struct{}{})
				}
			case unwinding:
			default:
				t.panicked = describePanic(v)
			}
		}()
		code()
		returned = true
	})
}

// unwind ends the thread's code where it waits.
func (t *Thread) unwind() {
	t.stopped = true
	if !t.lost {
		t.stop()
	}
}

// describePanic returns the panic and the first line of saga code on the stack. It must run in the deferred function,
// while the frames of the panic are still on the stack.
func describePanic(v any) string {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !isInternal(frame) {
			file := frame.File[strings.LastIndexByte(frame.File, '/')+1:]
			return fmt.Sprintf("%v (at %s:%d)", v, file, frame.Line)
		}
		if !more {
			return fmt.Sprint(v)
		}
	}
}

// isInternal reports whether a stack frame is between saga code and the machine.
func isInternal(frame runtime.Frame) bool {
	return strings.HasPrefix(frame.Function, "runtime.") || strings.Contains(frame.Function, "/machine.(*Thread).") ||
		strings.Contains(frame.Function, "/orchestrator/saga.") || strings.HasSuffix(frame.File, ".treaty.go")
}
