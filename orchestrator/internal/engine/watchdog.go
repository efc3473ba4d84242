package engine

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/coroutine"
)

const (
	// DefaultTurnLimit is the default of Config.TurnLimit.
	DefaultTurnLimit = 3 * time.Second

	// limitTicks is how many ticks make a limit, if it isn't longer than that many times maxTick.
	limitTicks = 30

	// minTick and maxTick are the bounds of the time between two ticks.
	minTick, maxTick = time.Millisecond, 100 * time.Millisecond

	// dumpShare limits which share of the time the process is stopped to find out where code stands: 1 in dumpShare.
	dumpShare = 10
)

// watchdog interrupts the code of sagas that runs for too long.
//
// It counts time in ticks. Between two ticks, the process has run long enough for the watchdog, and for every goroutine
// that was ready to run before it. So however long the process stands still, be it stopped, on a machine that is paused
// or asleep, or starved of CPU, that counts as one tick.
//
// A turn costs a few atomic operations. Only what runs at a tick is looked at, and there are no ticks while no code
// runs. All methods may be called concurrently.
type watchdog struct {
	interval time.Duration // between ticks
	limit    int           // how many ticks the same code may run
	logger   *slog.Logger
	observer Observer

	began   atomic.Pointer[watched] // a list of code that has begun to run and that the watchdog doesn't look at yet
	wake    chan struct{}           // has room for one signal that the list isn't empty any more
	hurried atomic.Bool             // the engine can't wait for code any longer
	cut     atomic.Bool             // code was cut off because of that
	stop    chan struct{}
	stopped chan struct{}

	// Owned by run.

	stacks    *coroutine.Stacks // of this tick; nil if they weren't needed
	notBefore time.Time         // when stacks may be read again
}

// newWatchdog returns a watchdog that runs until close is called.
func newWatchdog(limit time.Duration, logger *slog.Logger, observer Observer) *watchdog {
	if limit <= 0 {
		limit = DefaultTurnLimit
	}
	interval := min(max(limit/limitTicks, minTick), maxTick)
	d := &watchdog{
		interval: interval, limit: int((limit + interval - 1) / interval), logger: logger, observer: observer,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go d.run()
	return d
}

// close returns once the watchdog has stopped. Code that runs afterwards isn't interrupted.
func (d *watchdog) close() {
	close(d.stop)
	<-d.stopped
}

// hurry cuts off all code that runs for longer than a tick, because the engine stops.
func (d *watchdog) hurry() { d.hurried.Store(true) }

// watched is the code of one saga in memory.
type watched struct {
	coroutine.Group

	dog     *watchdog
	saga    string               // the saga's id
	misused func(message string) // called when the code used its Context on another goroutine
	slow    func()               // called when the code runs for longer than a tick; may be nil

	wasCut atomic.Bool // the code was cut off; what its machine says must be ignored
	listed atomic.Bool // the watchdog looks at it, or will
	next   *watched    // in the list

	// Owned by the watchdog.

	period uint64
	ticks  int
}

func (d *watchdog) watch(saga string) *watched {
	w := &watched{dog: d, saga: saga}
	w.Observe(w)
	return w
}

// Began makes the watchdog look at the code.
func (w *watched) Began() {
	if w.dog.cut.Load() {
		w.wasCut.Store(true)
		w.Interrupt(w.Period(), nil)
	}
	if w.listed.Load() || w.listed.Swap(true) {
		return
	}
	for {
		w.next = w.dog.began.Load()
		if w.dog.began.CompareAndSwap(w.next, w) {
			break
		}
	}
	if w.next == nil {
		select {
		case w.dog.wake <- struct{}{}:
		default:
		}
	}
}

// Misused reports the misuse.
func (w *watched) Misused(message string) {
	w.dog.logger.Error("saga code used its Context on another goroutine", "saga", wire.SagaName(w.saga),
		"error", message)
	if w.misused != nil {
		w.misused(message)
	}
}

// Left counts the goroutine.
func (w *watched) Left(where coroutine.Place) {
	w.dog.logger.Error("saga code blocks; its goroutine was left behind", "saga", wire.SagaName(w.saga),
		"place", where.String())
	w.dog.observer.CodeLeft()
}

// Ended counts the goroutine no longer.
func (w *watched) Ended() { w.dog.observer.CodeEnded() }

func (d *watchdog) run() {
	defer close(d.stopped)
	timer := time.NewTimer(d.interval)
	defer timer.Stop()
	var under []*watched
	for {
		if len(under) == 0 && d.began.Load() == nil {
			select {
			case <-d.wake:
			case <-d.stop:
				return
			}
		}
		timer.Reset(d.interval)
		select {
		case <-timer.C:
		case <-d.stop:
			return
		}
		runtime.Gosched() // behind all code that waits for a CPU
		for w := d.began.Swap(nil); w != nil; w = w.next {
			under = append(under, w)
		}
		under = d.tick(under)
	}
}

// tick looks at all code that runs, and returns what still does.
func (d *watchdog) tick(under []*watched) []*watched {
	d.stacks = nil
	limit := d.limit
	hurried := d.hurried.Load()
	if hurried {
		limit = 1
	}
	running := under[:0]
	for _, w := range under {
		if !w.runs() {
			continue
		}
		running = append(running, w)
		if w.ticks >= 1 && w.slow != nil {
			w.slow()
		}
		if w.ticks < limit || d.stacks == nil && time.Now().Before(d.notBefore) {
			continue
		}
		if hurried {
			w.wasCut.Store(true)
			d.cut.Store(true)
		}
		w.Interrupt(w.period, d.place)
	}
	clear(under[len(running):])
	return running
}

// runs counts the ticks at which the same code ran. It returns false if no code runs; then the watchdog forgets it.
func (w *watched) runs() bool {
	period := w.Period()
	if period == 0 {
		w.listed.Store(false)
		// It may have begun again while it was still listed.
		if period = w.Period(); period == 0 || w.listed.Swap(true) {
			return false
		}
	}
	if period != w.period {
		w.period, w.ticks = period, 0
	} else {
		w.ticks++
	}
	return true
}

// place returns where the code of a coroutine stands.
func (d *watchdog) place(c *coroutine.Coroutine) coroutine.Place {
	if d.stacks == nil {
		began := time.Now()
		d.stacks = coroutine.ReadStacks()
		d.notBefore = time.Now().Add(dumpShare * time.Since(began))
	}
	return d.stacks.Place(c)
}

// hurryAfter makes the watchdog hurry when ctx ends, unless the returned function is called before.
func (d *watchdog) hurryAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, d.hurry)
}
