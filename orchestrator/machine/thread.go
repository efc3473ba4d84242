package machine

import (
	"fmt"
	"iter"
	"runtime"
	"strconv"
	"strings"
	"time"

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

	// Same compares the request with a journaled one whose bytes differ: serializing is not stable over versions. Nil: the
	// bytes decide.
	Same func(journaled []byte) bool
}

// Result is what a step came to, as saga code sees it.
type Result struct {
	// Reply is the serialized reply; nil when the step failed.
	Reply []byte

	// Failure is the participant's status when the step failed.
	Failure *treatyv1.Failure

	// Unknown says that the step may have been executed all the same.
	Unknown bool
}

// Thread is one line of execution in saga code. Its methods may only be called from that code, on its own goroutine.
type Thread struct {
	machine *Machine
	yield   func(struct{}) bool
	path    string // of the branch; empty for the main thread
	calls   int    // so far, for the paths of the next ones
	call    *Call  // what the code waits for
	result  Result
	stopped bool
}

// unwind is what leaves saga code when its coroutine is stopped.
type unwind struct{}

// Call asks for a step and waits until it has ended.
func (t *Thread) Call(call *Call) Result {
	if t.stopped {
		panic(unwind{})
	}
	t.calls++
	t.call = call
	if !t.yield(struct{}{}) {
		t.stopped = true
		panic(unwind{})
	}
	return t.result
}

// next is the path of the step that the code waits for.
func (t *Thread) next() string { return t.path + strconv.Itoa(t.calls) }

// Saga is the saga's id.
func (t *Thread) Saga() string { return t.machine.saga.ID }

// Started is how the saga was started.
func (t *Thread) Started() *treatyv1.SagaStarted { return t.machine.saga.Started }

// Path is the thread's path; empty for the main thread.
func (t *Thread) Path() string { return t.path }

// Now is the time of the turn that the code runs in: the same in every replay.
func (t *Thread) Now() time.Time { return t.machine.now }

// Environment is what the machine was made with.
func (t *Thread) Environment() any { return t.machine.config.Environment }

// Replaying says whether the code runs to come where its journal is, so that nothing it says is new.
func (t *Thread) Replaying() bool { return t.machine.replaying }

// coroutine runs saga code from one call to the next.
type coroutine struct {
	thread *Thread
	next   func() (struct{}, bool)
	stop   func()

	ended    bool
	reply    []byte
	failure  *treatyv1.Failure
	panicked string // what and where; empty when the code returned
}

func newCoroutine(m *Machine, code Code, request []byte) *coroutine {
	co := &coroutine{thread: &Thread{machine: m}}
	co.next, co.stop = iter.Pull(func(yield func(struct{}) bool) {
		co.thread.yield = yield
		defer func() {
			switch v := recover().(type) {
			case nil, unwind:
			default:
				co.panicked = describePanic(v)
			}
		}()
		co.reply, co.failure = code(co.thread, request)
	})
	return co
}

// resume runs the code until it waits for its next call or ends.
func (co *coroutine) resume(result Result) {
	co.thread.result, co.thread.call = result, nil
	if _, waits := co.next(); !waits {
		co.ended = true
	}
}

// describePanic names the panic and the first line of code outside the runtime. It runs in the deferred function, where the
// panicking frames are still on the stack.
func describePanic(v any) string {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers[:])])
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !strings.HasPrefix(frame.Function, "runtime.") {
			file := frame.File[strings.LastIndexByte(frame.File, '/')+1:]
			return fmt.Sprintf("%v (at %s:%d)", v, file, frame.Line)
		}
		if !more {
			return fmt.Sprint(v)
		}
	}
}
