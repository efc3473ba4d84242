package coroutine

import (
	"iter"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// Coroutine runs one line of code of a [Group]. The goroutine that runs the saga calls Resume; the code calls the other
// methods, on the coroutine's own goroutine unless they say otherwise. Call Init first.
type Coroutine struct {
	group *Group
	next  func() (struct{}, bool)
	yield func(struct{}) bool

	// state is parked, abandoned, or the period in which the code runs, with the bits held and wanted.
	state  atomic.Uint64
	period uint64         // in which it was resumed
	where  Place          // where the code stood when it was left behind; set before the state says so
	left   sync.WaitGroup // until the goroutine that runs the saga has left the code behind
}

// The states of a coroutine whose code doesn't run.
const (
	parked    = 0              // it hasn't begun, waits in Yield, or has ended
	abandoned = math.MaxUint64 // its goroutine was left behind
)

// The bits of the state of a coroutine whose code runs. The bits above are those of the period.
const (
	held   = 1 << 0 // the code is between Use and Release, and can't be left behind
	wanted = 1 << 1 // it is to be left behind when it releases
)

func runs(state uint64) bool { return state != parked && state != abandoned }

// Result is how a coroutine stopped to run.
type Result int

// The results of [Coroutine.Resume].
const (
	// Waits means that the code called Yield.
	Waits Result = iota

	// Ended means that the code has ended.
	Ended

	// Left means that the code was left behind, or wasn't resumed because the period was interrupted.
	Left
)

// live is the number of coroutines whose code runs in this process, including code that was left behind.
var live atomic.Int64

// Init makes the coroutine run code when it is resumed. The code must recover from its panics, and call Finish.
func (c *Coroutine) Init(group *Group, code func()) {
	c.group = group
	c.left.Add(1)
	c.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		c.run(code)
	})
}

// run runs the code. Its frame identifies the coroutine on a stack, so it is never inlined, and keeps its receiver.
//
//go:noinline
func (c *Coroutine) run(code func()) {
	debug.SetPanicOnFault(true) // see isMarked
	defer c.ended()
	c.state.Store(c.period)
	code()
	runtime.KeepAlive(c)
}

func (c *Coroutine) ended() {
	if c.state.Load() == abandoned {
		live.Add(-1)
		if c.group.observer != nil {
			c.group.observer.Ended()
		}
	}
}

// Resume runs the code until it yields or ends, or is left behind.
func (c *Coroutine) Resume() Result {
	g := c.group
	g.Enter()
	result := c.resume(g)
	g.Leave()
	return result
}

func (c *Coroutine) resume(g *Group) Result {
	if c.state.Load() == abandoned || g.Overdue() {
		return Left
	}
	c.period = g.Period()
	g.current.Store(c)
	live.Add(1)
	_, waits := c.next()
	g.current.Store(nil)
	if c.state.Load() == abandoned {
		if g.observer != nil {
			g.observer.Left(c.where)
		}
		c.left.Done()
		return Left
	}
	live.Add(-1)
	if waits {
		return Waits
	}
	return Ended
}

// Behind reports whether the code was left behind. It is for the goroutine that runs the saga.
func (c *Coroutine) Behind() bool { return c.state.Load() == abandoned }

// Where returns where the code stood when it was left behind. It is for the goroutine that runs the saga.
func (c *Coroutine) Where() Place { return c.where }

// Yield waits until the coroutine is resumed.
func (c *Coroutine) Yield() {
	bits, ok := c.park()
	if !ok {
		c.exit()
	}
	c.yield(struct{}{})
	c.state.Store(c.period | bits)
}

// Finish ends the code's use of the coroutine, right before the code returns. It returns false if the code was left
// behind: then the code must not change its saga any more.
func (c *Coroutine) Finish() bool {
	if _, ok := c.park(); !ok {
		c.left.Wait()
		return false
	}
	return true
}

// park changes the state from running to parked, and returns whether it was held. It returns false if the code was left
// behind.
func (c *Coroutine) park() (bits uint64, ok bool) {
	for {
		state := c.state.Load()
		if state == abandoned {
			return 0, false
		}
		if c.state.CompareAndSwap(state, parked) {
			return state & held, true
		}
	}
}

// hold keeps the code from being left behind. If it was already, hold ends the goroutine.
func (c *Coroutine) hold() {
	state := c.state.Load()
	if state != abandoned && (state&held != 0 || c.state.CompareAndSwap(state, state|held)) {
		return
	}
	c.exit()
}

func (c *Coroutine) release() {
	state := c.state.Load()
	if state == abandoned {
		c.exit()
	}
	if state&held == 0 || state&wanted == 0 && c.state.CompareAndSwap(state, state&^held) {
		return
	}
	c.Detach()
	runtime.Goexit()
}

// Detach leaves the code behind by its own decision. It returns when Resume has, or at once if the code was left behind
// before.
func (c *Coroutine) Detach() {
	if c.state.Swap(abandoned) != abandoned {
		c.substitute()
	}
	c.left.Wait()
}

// exit ends the goroutine of code that was left behind.
func (c *Coroutine) exit() {
	c.left.Wait()
	runtime.Goexit()
}

// leave leaves the code behind if it runs in a period. Code that is held leaves by itself when it releases.
func (c *Coroutine) leave(period uint64, where func(*Coroutine) Place) {
	if state := c.state.Load(); state != period && state != period|held {
		return
	}
	if where != nil {
		c.where = where(c)
	}
	if c.state.CompareAndSwap(period, abandoned) {
		c.substitute()
		return
	}
	c.state.CompareAndSwap(period|held, period|held|wanted)
}

// substitute lets Resume return although the code neither yields nor ends: another goroutine yields in its place, and
// then waits until the code's own goroutine has ended. Two goroutines that take turns need not be the same two all the
// time: the runtime's coroutines switch between the goroutine that calls and the one that waits, whoever they are.
func (c *Coroutine) substitute() { go c.yield(struct{}{}) }
