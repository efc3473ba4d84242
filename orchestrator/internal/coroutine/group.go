package coroutine

import "sync/atomic"

// Observer is told what the code of a group does. Its methods must be quick and must not block.
type Observer interface {
	// Began is called at the beginning of each period in which code runs, by the goroutine that runs the saga.
	Began()

	// Misused is called once if code has used a coroutine of the group on a goroutine that isn't a coroutine's, on that
	// goroutine.
	Misused(message string)

	// Left is called when the goroutine of a coroutine was left behind, by the goroutine that runs the saga, with the
	// place where its code stood.
	Left(where Place)

	// Ended is called when a goroutine that was left behind has ended, on that goroutine.
	Ended()
}

// Group is the coroutines of one saga. One of them runs at a time. The goroutine that runs the saga calls its methods;
// those that may be called on any goroutine say so. The zero value is ready, and has no observer.
type Group struct {
	observer Observer

	period  atomic.Uint64             // the period in which code runs, with overdue; 0 if none runs
	current atomic.Pointer[Coroutine] // the one that was resumed, or nil
	misuse  atomic.Pointer[string]
	quiet   atomic.Bool

	// Owned by the goroutine that runs the saga.

	depth   int // how often Enter was called without Leave
	periods uint64
}

// overdue is the bit of a group's period that says that no code must run any more in it.
const overdue = 1

// Observe sets the observer. Call it before anything else.
func (g *Group) Observe(observer Observer) { g.observer = observer }

// Enter begins a period in which code runs, unless one has begun. Each call needs one of Leave.
func (g *Group) Enter() {
	if g.depth++; g.depth > 1 {
		return
	}
	g.periods++
	g.period.Store(g.periods << 2)
	if g.observer != nil {
		g.observer.Began()
	}
}

// Leave ends the period with the last call that belongs to an Enter.
func (g *Group) Leave() {
	if g.depth--; g.depth == 0 {
		g.period.Store(0)
	}
}

// Overdue reports whether the period was interrupted.
func (g *Group) Overdue() bool { return g.period.Load()&overdue != 0 }

// Period returns a number for the period in which code runs. It is 0 while none runs, and never the same for two
// periods. It may be called on any goroutine.
func (g *Group) Period() uint64 { return g.period.Load() &^ overdue }

// Interrupt ends a period early: no coroutine is resumed any more in it, and if code runs now, it is left behind. The
// function where returns where the code of a coroutine stands; it may be nil. Interrupt has no effect if the period has
// ended. It may be called on any goroutine, but on one at a time. Call it again while the period lasts: there are
// moments at which code can't be left behind.
func (g *Group) Interrupt(period uint64, where func(*Coroutine) Place) {
	if !g.period.CompareAndSwap(period, period|overdue) && g.period.Load() != period|overdue {
		return
	}
	if c := g.current.Load(); c != nil {
		c.leave(period, where)
	}
}

// Release ends what [Coroutine.Use] began. If the code was to be left behind meanwhile, it ends the goroutine.
func (g *Group) Release() {
	if c := g.current.Load(); c != nil {
		c.release()
	}
}

// Misuse returns what [Coroutine.NoteMisuse] noted first, or "". It may be called on any goroutine.
func (g *Group) Misuse() string {
	if message := g.misuse.Load(); message != nil {
		return *message
	}
	return ""
}

// SetQuiet sets what Quiet returns.
func (g *Group) SetQuiet(quiet bool) { g.quiet.Store(quiet) }

// Quiet reports whether the code runs without effect. It may be called on any goroutine.
func (g *Group) Quiet() bool { return g.quiet.Load() }
