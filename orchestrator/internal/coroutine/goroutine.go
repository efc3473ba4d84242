package coroutine

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// Caller says on which goroutine a coroutine is used.
type Caller int

// The callers.
const (
	// Own is the goroutine of the coroutine, or of another one of its group.
	Own Caller = iota

	// Other is the goroutine of a coroutine of another group, or one that was left behind.
	Other

	// Foreign is a goroutine that isn't a coroutine's.
	Foreign
)

// Use is called before the code uses its saga, on any goroutine, and returns on which one. If it is Own, the code may
// change the saga's state, and can't be left behind before [Group.Release]. If the code was left behind already, Use
// ends the goroutine.
func (c *Coroutine) Use() Caller {
	marked := isMarked()
	if current := c.group.current.Load(); current != nil && current.runsHere(marked) {
		current.hold()
		return Own
	}
	switch {
	case c.state.Load() == abandoned && c.onStack(marked):
		c.exit()
		return Other
	case marked:
		return Other
	default:
		return Foreign
	}
}

// NoteMisuse notes that the code used the coroutine where it must not, for [Group.Misuse]. The first note counts. It
// may be called on any goroutine.
func (c *Coroutine) NoteMisuse(message string) {
	if c.group.misuse.CompareAndSwap(nil, &message) && c.group.observer != nil {
		c.group.observer.Misused(message)
	}
}

// runsHere reports whether the coroutine's code runs, on the goroutine that calls.
func (c *Coroutine) runsHere(marked bool) bool {
	if !runs(c.state.Load()) {
		return false
	}
	// If no other coroutine runs in this process, a goroutine of a coroutine must be that of this one.
	return marked && live.Load() == 1 || c.onStack(marked)
}

// isMarked reports whether it is called on the goroutine of a coroutine. Go has no values that belong to a goroutine,
// except a few settings. This one says whether a memory fault is a panic or ends the process. For the code of a saga a
// panic is right anyway, and other goroutines hardly ever have it.
func isMarked() bool {
	if debug.SetPanicOnFault(true) {
		return true
	}
	debug.SetPanicOnFault(false)
	return false
}

// firstDump is the size of the stack that is printed first.
const firstDump = 4 << 10

var stacks = sync.Pool{New: func() any { return new([firstDump]byte) }}

// onStack reports whether the coroutine's frame is on the stack of the goroutine that calls. It takes microseconds. If
// this build doesn't print frames as expected, it returns fallback.
func (c *Coroutine) onStack(fallback bool) bool {
	if !identifiable() {
		return fallback
	}
	frame := []byte(c.frame())
	small := stacks.Get().(*[firstDump]byte) //nolint:forcetypeassert // The pool has no other values.
	defer stacks.Put(small)
	stack := small[:]
	for size := firstDump; ; size *= 4 {
		if size > firstDump {
			stack = make([]byte, size)
		}
		n := runtime.Stack(stack, false)
		if bytes.Contains(stack[:n], frame) {
			return true
		}
		if n < size || size > maxDump {
			return false
		}
	}
}

// frame is how the coroutine's frame begins in a printed stack.
func (c *Coroutine) frame() string { return fmt.Sprintf("/coroutine.(*Coroutine).run(%p,", c) }

// identifiable reports whether the frame of a coroutine is found in a printed stack. That depends on how the compiler
// passes arguments.
var identifiable = sync.OnceValue(func() bool {
	found := false
	c := new(Coroutine)
	c.Init(new(Group), func() {
		stack := make([]byte, 4<<10)
		found = bytes.Contains(stack[:runtime.Stack(stack, false)], []byte(c.frame()))
		c.Finish()
	})
	c.Resume()
	return found
})
