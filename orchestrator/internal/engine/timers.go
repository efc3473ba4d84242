package engine

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// timerHorizon is how far ahead timers are kept in memory. Later ones stay in the store until a scan reaches them.
	timerHorizon = time.Minute

	// steadyHorizon is how far ahead they are kept if the clock is steady.
	steadyHorizon = 200 * 365 * 24 * time.Hour

	// timerScanLimit is how many timers a scan reads at most.
	timerScanLimit = 1 << 20

	// clockCheck is the time between two checks whether the clock was set.
	clockCheck = time.Second

	// clockStep is by how much the clock must have been set, so that the timers are set again.
	clockStep = 100 * time.Millisecond
)

// timers wake sagas when they are due. They follow the clock: when it is set, forward or back, they are set again
// within clockCheck.
type timers struct {
	now    func() time.Time
	store  Store
	logger *slog.Logger
	work   *work
	fire   func(id string) // doesn't block
	steady bool            // the clock is never set

	mu       sync.Mutex
	armed    map[string]*timer
	until    time.Time           // all timers due before this moment are in memory
	newer    map[string]struct{} // the sagas whose timers were set during the current scan; nil while no scan runs
	nextScan *time.Timer
	steps    clockSteps // since the timers were set
	check    *time.Timer
	stopped  bool
}

type timer struct {
	due   time.Time
	clock *time.Timer
}

func newTimers(config *Config, work *work, fire func(id string)) *timers {
	return &timers{
		now: config.now, store: config.Store, logger: config.Logger, work: work, fire: fire, steady: config.SteadyClock,
		armed: make(map[string]*timer), steps: newClockSteps(config.now),
	}
}

// start reads the timers from the store, and begins to follow the clock.
func (t *timers) start() {
	t.scan()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.stopped && !t.steady {
		t.check = time.AfterFunc(clockCheck, t.follow)
	}
}

// follow sets all timers again if the clock was set, and reads those that are in the store alone.
func (t *timers) follow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	t.check.Reset(clockCheck)
	step := t.steps.since()
	if step.Abs() < clockStep || t.newer != nil {
		return // after a scan that runs, the next check finds the step
	}
	t.steps.accept()
	now := t.now()
	for _, timer := range t.armed {
		timer.clock.Reset(timer.due.Sub(now))
	}
	if step > 0 {
		t.nextScan.Reset(0)
	}
}

// set makes the saga's timer fire at due and at no other time. The zero time means never.
func (t *timers) set(id string, due time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.newer != nil {
		t.newer[id] = struct{}{}
	}
	t.setLocked(id, due)
}

// setLocked is set for a caller that holds the lock.
func (t *timers) setLocked(id string, due time.Time) {
	old := t.armed[id]
	if old != nil && old.due.Equal(due) {
		return
	}
	if old != nil {
		old.clock.Stop()
		delete(t.armed, id)
	}
	if due.IsZero() || due.After(t.until) || t.stopped {
		return
	}
	if !due.After(t.now()) {
		t.fire(id)
		return
	}
	next := &timer{due: due}
	next.clock = time.AfterFunc(due.Sub(t.now()), func() { t.fired(id, next) })
	t.armed[id] = next
}

// fired is called when a timer's time is up.
func (t *timers) fired(id string, timer *timer) {
	t.mu.Lock()
	if t.armed[id] != timer || t.stopped {
		t.mu.Unlock()
		return // it was set again
	}
	delete(t.armed, id)
	if timer.due.After(t.now()) {
		t.setLocked(id, timer.due) // the clock was set back
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	t.fire(id)
}

// scan reads the timers within the horizon from the store, and schedules the next scan. It does nothing while another
// scan runs.
func (t *timers) scan() {
	if !t.work.Enter() {
		return
	}
	defer t.work.Leave()
	t.mu.Lock()
	if t.stopped || t.newer != nil {
		t.mu.Unlock()
		return
	}
	t.until = t.now().Add(2 * timerHorizon)
	if t.steady {
		t.until = t.now().Add(steadyHorizon)
	}
	until := t.until
	t.newer = make(map[string]struct{})
	t.mu.Unlock()
	due, err := t.store.Due(t.work.ctx, until, timerScanLimit)
	if err != nil && t.work.ctx.Err() == nil {
		t.logger.Error("reading timers from the store failed; trying again in a minute", "error", err)
	}
	for _, d := range due {
		t.mu.Lock()
		// A timer that was set during the scan is newer than the one that was read.
		if _, newer := t.newer[d.Saga]; !newer {
			t.setLocked(d.Saga, d.Time)
		}
		t.mu.Unlock()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.newer = nil
	if !t.stopped && !t.steady {
		t.nextScan = time.AfterFunc(timerHorizon, t.scan)
	}
}

// close stops all timers.
func (t *timers) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.nextScan != nil {
		t.nextScan.Stop()
	}
	if t.check != nil {
		t.check.Stop()
	}
	for id, timer := range t.armed {
		timer.clock.Stop()
		delete(t.armed, id)
	}
}
