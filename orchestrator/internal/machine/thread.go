package machine

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/coroutine"
)

// Thread runs one line of saga code: the main function, or a branch. Only that code may call its methods, on its own
// coroutine. [Thread.Use] finds out whether it does.
type Thread struct {
	machine *Machine
	program *program
	scope   *scope // the scope of a branch; nil for the main thread
	branch  int
	path    string // the prefix of the paths of its operations
	ops     int    // how many operations it has performed

	coroutine coroutine.Coroutine

	op        any    // the operation that the code waits for: *Call, *Wait, *Broadcast or *scope, or nil
	opPath    string // the path of op
	scheduled bool   // op is recorded
	stopping  bool   // the thread stops when op has ended
	stopped   bool   // the code is unwound, or was
	ended     bool   // the code has ended, or was left behind

	result result
	end    ending
}

// ending is how the code of a thread ended.
type ending struct {
	reply    []byte
	failure  *treatyv1.Failure
	panicked string // the panic and where it happened; empty if there was none
	broken   string // the rule that the code broke; empty if there was none
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

// breach is the panic of code that breaks a rule, with the rule.
type breach string

// ErrForeignGoroutine means that saga code used its Context on a goroutine that it started itself.
var ErrForeignGoroutine = errors.New("a Context was used on another goroutine than the one that received it; " +
	"don't start goroutines in saga code: send commands in parallel with saga.All or saga.Each")

// Use must be called before the thread is used, on whatever goroutine, and [Thread.Release] after it. On another
// goroutine than the one that runs the saga's code it returns an error that wraps [ErrForeignGoroutine] and says where,
// and the saga will be suspended. In the code of another saga it panics. In code that was left behind, it ends the
// goroutine.
func (t *Thread) Use() error {
	switch t.coroutine.Use() {
	case coroutine.Own:
		return nil
	case coroutine.Other:
		panic(misuse)
	default:
		message := at(ErrForeignGoroutine)
		t.coroutine.NoteMisuse(message)
		return fmt.Errorf("%w%s", ErrForeignGoroutine, strings.TrimPrefix(message, ErrForeignGoroutine.Error()))
	}
}

// Release ends what Use began.
func (t *Thread) Release() { t.program.group().Release() }

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
	t.coroutine.Yield()
	if t.stopped {
		panic(unwinding{})
	}
	return t.result
}

// Saga returns the saga's id. It may be called on any goroutine.
func (t *Thread) Saga() string { return t.machine.config.ID }

// Started returns how the current round of the saga was started.
func (t *Thread) Started() *treatyv1.SagaStarted { return t.machine.saga.Started }

// Path returns the prefix of the paths of the thread's operations. It is empty for the main thread of the first round.
func (t *Thread) Path() string { return t.path }

// Now returns the time of the turn that the code runs in. It is the same in every replay.
func (t *Thread) Now() time.Time { return t.machine.now }

// Environment returns Config.Environment.
func (t *Thread) Environment() any { return t.machine.config.Environment }

// Replaying reports whether the code runs to recover the state of its journal, so that it does nothing new. It may be
// called on any goroutine.
func (t *Thread) Replaying() bool { return t.program.group().Quiet() }

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

// Break suspends the saga because its code breaks a rule of the saga language. It panics.
func (t *Thread) Break(rule string) { panic(breach(rule)) }

// Restart makes the saga start a new round with a request when its code has returned.
func (t *Thread) Restart(request []byte) { t.program.restart = &restart{request: request} }

// restart is the request to start a new round.
type restart struct{ request []byte }

// start creates the thread's coroutine, which doesn't run yet.
func (t *Thread) start(code func() ([]byte, *treatyv1.Failure)) {
	t.coroutine.Init(t.program.group(), func() { t.run(code) })
}

// run runs the code. If the code was left behind, nothing of what it does afterwards may touch the thread.
func (t *Thread) run(code func() ([]byte, *treatyv1.Failure)) {
	if t.stopped { // before it began
		t.coroutine.Finish()
		return
	}
	var end ending
	returned := false
	defer func() {
		switch v := recover().(type) {
		case nil:
			if !returned {
				t.goexit()
				return
			}
		case unwinding:
		case breach:
			end.broken = string(v)
		default:
			end.panicked = at(v)
		}
		if t.coroutine.Finish() {
			t.end = end
		}
	}()
	end.reply, end.failure = code()
	returned = true
}

// goexit is called when the code called runtime.Goexit, which can't be stopped. It would continue in the goroutine that
// runs the machine, so the coroutine leaves that one.
func (t *Thread) goexit() {
	if t.coroutine.Use() == coroutine.Own {
		t.end.panicked = at("runtime.Goexit was called")
	}
	t.coroutine.Detach()
}

// unwind ends the thread's code where it waits. It returns false if the code didn't end and was left behind.
func (t *Thread) unwind() bool {
	if t.coroutine.Behind() {
		return false
	}
	t.stopped = true
	return t.coroutine.Resume() != coroutine.Left
}

// at returns a text and the first line of saga code on the stack. After a panic, it must be called in the deferred
// function, while the frames of the panic are still on the stack.
func at(what any) string {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !isInternal(frame) {
			file := frame.File[strings.LastIndexByte(frame.File, '/')+1:]
			return fmt.Sprintf("%v (at %s:%d)", what, file, frame.Line)
		}
		if !more {
			return fmt.Sprint(what)
		}
	}
}

// isInternal reports whether a stack frame is between saga code and the machine.
func isInternal(frame runtime.Frame) bool {
	return strings.HasPrefix(frame.Function, "runtime.") || strings.Contains(frame.Function, "/internal/machine.") ||
		strings.Contains(frame.Function, "/internal/coroutine.") ||
		strings.Contains(frame.Function, "/orchestrator/saga.") || strings.HasSuffix(frame.File, ".treaty.go")
}
