package admission

import (
	"sync"
	"sync/atomic"
	"time"
)

// DefaultCeiling is the ceiling of a participant for which none is configured.
const DefaultCeiling = 1024

// firstCalls is how many calls of a method are made until it is known how long they usually take.
const firstCalls = 32

// longQueue is how many times the limit a queue must hold until a wait counts as long.
const longQueue = 4

// Params configure a Controller.
type Params struct {
	// Ceiling is how many commands may be in flight at most. Default DefaultCeiling.
	Ceiling int

	// PerSecond is how many commands may be sent per second at most. 0 means no limit.
	PerSecond float64

	// Hold returns false when the participant may be called. Otherwise it returns true, and calls wake once that may
	// have changed. It is called with a lock held, and wake takes that lock. Nil: the participant may always be called.
	Hold func(wake func()) (held bool)
}

// Controller admits the commands of one participant. All methods may be called concurrently.
type Controller struct {
	hold func(wake func()) bool
	rate *Rate // nil without a limit

	mu        sync.Mutex
	limit     limit
	methods   []*Method // without those that are held
	queue     queue
	held      bool      // hold will call wake
	notBefore time.Time // nothing is sent before this time
	timer     *time.Timer
	closed    bool

	// waiting is the length of the queue, to be read without the lock.
	waiting atomic.Int64
}

// New returns a controller.
func New(params Params) *Controller {
	if params.Ceiling <= 0 {
		params.Ceiling = DefaultCeiling
	}
	c := &Controller{hold: params.Hold, limit: newLimit(params.Ceiling)}
	if params.PerSecond > 0 {
		c.rate = NewRate(params.PerSecond, int(params.PerSecond/10))
	}
	return c
}

// Method is a method of the participant.
type Method struct {
	timeout time.Duration
	held    bool

	// The lock of the controller guards what follows.

	parked  bool
	limit   limit
	learned int     // the number of calls that were learned from, up to firstCalls
	average float64 // of how many nanoseconds recent calls took
	usual   float64 // the same while the participant had little to do; 0 if it isn't known yet
}

// NewMethod returns a method whose calls have a timeout.
func (c *Controller) NewMethod(timeout time.Duration) *Method {
	m := &Method{timeout: timeout, limit: newLimit(int(c.limit.ceiling))}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.methods = append(c.methods, m)
	return m
}

// NewHeldMethod returns a method whose calls may take long on purpose, so that their time says nothing. Its limit is
// the ceiling.
func (c *Controller) NewHeldMethod() *Method {
	m := &Method{held: true, limit: newLimit(int(c.limit.ceiling))}
	m.limit.value = m.limit.ceiling
	return m
}

func (m *Method) hasRoom() bool { return !m.parked && m.limit.hasRoom() }

// Park holds back the commands of a method until Resume. It doesn't matter how often it is called.
func (c *Controller) Park(m *Method) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m.parked = true
}

// Resume lets the commands of a method go again, within the limits.
func (c *Controller) Resume(m *Method) {
	c.mu.Lock()
	m.parked = false
	c.mu.Unlock()
	c.grant()
}

// allowed returns how long a call should take at most.
func (m *Method) allowed() time.Duration {
	timeout := float64(m.timeout)
	most := mostPatience * timeout
	if m.usual == 0 {
		return time.Duration(most)
	}
	return time.Duration(max(patience*timeout, min(2*m.usual, most)))
}

// learn remembers how long a call took. If calls take longer than before, that is only what they usually take if the
// participant has little to do. Otherwise it may be for our own calls.
func (m *Method) learn(took time.Duration, idle bool) {
	if m.learned < firstCalls {
		// Those that answer first are the fastest ones.
		m.learned++
		m.average += (float64(took) - m.average) / float64(m.learned)
		if m.learned == firstCalls {
			m.usual = m.average
		}
		return
	}
	m.average += (float64(took) - m.average) * smoothing
	if m.average < m.usual || idle {
		m.usual += (m.average - m.usual) * smoothing
	}
}

// Slot is the permission to make one attempt. Its methods may be called for nil, which is a permission without limits.
// They must not be called concurrently. After End or Release, they have no effect.
type Slot struct {
	controller *Controller
	method     *Method
	began      time.Time
	inFlight   int // with this one, at the beginning
	ofMethod   int // the same for the method
	ended      bool
}

// Wait is a command that waits for its slot.
type Wait struct {
	// Cancel makes the command wait no longer. If it has its slot already, granted was called or will be.
	Cancel func()

	// Held returns whether the participant, or the method, can't be called at all now, so that it isn't the other
	// commands that the command waits for.
	Held func() bool

	// Why returns why the method is parked, or "" if it isn't. Who parks methods sets it; it may be nil.
	Why func() string

	// Unreachable returns why the participant can't be reached, or "" if that isn't known. It may be nil.
	Unreachable func() string

	// Long says that it will probably wait long.
	Long bool
}

// Admit returns a slot for an attempt, or nil and a wait. In that case, granted is called once with the slot when it is
// the command's turn, unless the wait is cancelled before. It must not block.
func (c *Controller) Admit(m *Method, claim Claim, granted func(*Slot)) (*Slot, *Wait) {
	c.mu.Lock()
	if c.queue.len == 0 && c.mayGrant(m) {
		slot := c.take(m)
		c.mu.Unlock()
		return slot, nil
	}
	w := c.queue.add(m, claim, granted)
	all := c.grantAll()
	own := all.remove(w)
	long := c.held || m.parked || float64(c.queue.len) > longQueue*c.limit.value
	c.mu.Unlock()
	all.call()
	if own != nil {
		return own, nil
	}
	return nil, &Wait{Cancel: func() { c.cancel(w) }, Held: func() bool { return c.isHeld(m) }, Long: long}
}

// cancel removes a waiter from the queue.
func (c *Controller) cancel(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.remove(w)
	c.waiting.Store(int64(c.queue.len))
}

// isHeld returns whether the participant, or a method of it, can't be called now.
func (c *Controller) isHeld(m *Method) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held || m.parked
}

// mayGrant returns whether an attempt of a method may begin now. If only time or the participant stands in the way, it
// makes sure that the queue is looked at again.
func (c *Controller) mayGrant(m *Method) bool {
	if !c.hasRoom(m) || c.held || c.closed {
		return false
	}
	var now time.Time
	if c.rate != nil || !c.notBefore.IsZero() {
		now = time.Now()
	}
	if now.Before(c.notBefore) {
		c.wakeIn(c.notBefore.Sub(now))
		return false
	}
	c.notBefore = time.Time{}
	if c.rate != nil {
		if wait := c.rate.Wait(now); wait > 0 {
			c.wakeIn(wait)
			return false
		}
	}
	if c.hold != nil && c.hold(c.wake) {
		c.held = true
		return false
	}
	if c.rate != nil {
		c.rate.Take(now)
	}
	return true
}

// hasRoom returns whether the limits allow another call of a method. Calls that are held on purpose don't count against
// the participant's.
func (c *Controller) hasRoom(m *Method) bool { return m.hasRoom() && (m.held || c.limit.hasRoom()) }

// wakeIn looks at the queue again after a time.
func (c *Controller) wakeIn(delay time.Duration) {
	if c.timer == nil {
		c.timer = time.AfterFunc(delay, c.grant)
	} else {
		c.timer.Reset(delay)
	}
}

// take takes a slot.
func (c *Controller) take(m *Method) *Slot {
	m.limit.inFlight++
	if !m.held {
		c.limit.inFlight++
	}
	return &Slot{
		controller: c, method: m, inFlight: c.limit.inFlight, ofMethod: m.limit.inFlight,
	}
}

// wake is called when the participant may be called again. What it can do now isn't known.
func (c *Controller) wake() {
	c.mu.Lock()
	c.held = false
	c.limit.restart()
	for _, m := range c.methods {
		m.limit.restart()
	}
	c.mu.Unlock()
	c.grant()
}

// grant gives slots to those who wait.
func (c *Controller) grant() {
	c.mu.Lock()
	all := c.grantAll()
	c.mu.Unlock()
	all.call()
}

// grants are the slots that were given.
type grants []granted

// granted is a slot that was given.
type granted struct {
	waiter *waiter
	slot   *Slot
}

// remove removes the slot of a waiter and returns it, or nil.
func (g grants) remove(w *waiter) *Slot {
	for i := range g {
		if g[i].waiter == w {
			slot := g[i].slot
			g[i] = granted{}
			return slot
		}
	}
	return nil
}

// call tells those who waited. The caller doesn't hold the lock.
func (g grants) call() {
	for _, granted := range g {
		if granted.waiter != nil {
			granted.waiter.granted(granted.slot)
		}
	}
}

// grantAll gives slots to those who wait, as far as there are any. The caller holds the lock.
func (c *Controller) grantAll() grants {
	var all grants
	for c.queue.len > 0 {
		w := c.queue.next(c.hasRoom)
		if w == nil || !c.mayGrant(w.group.key.method) {
			break
		}
		c.queue.remove(w)
		all = append(all, granted{w, c.take(w.group.key.method)})
	}
	c.waiting.Store(int64(c.queue.len))
	return all
}

// Result is how an attempt ended.
type Result int

// The results.
const (
	// Answered: the participant answered.
	Answered Result = iota

	// TimedOut: there was a connection, but no answer came in time.
	TimedOut

	// Throttled: the participant has too much to do.
	Throttled

	// NoSample: how long it took says nothing about the participant.
	NoSample
)

// Release gives the slot back without an attempt.
func (s *Slot) Release() { s.End(NoSample, 0) }

// Begin says that the attempt begins now. Call it before End.
func (s *Slot) Begin() {
	if s != nil {
		s.began = time.Now()
	}
}

// End gives the slot back after an attempt. If the participant asked to wait, nothing is sent to it for so long.
func (s *Slot) End(result Result, retryAfter time.Duration) {
	if s == nil || s.ended {
		return
	}
	s.ended = true
	c, m, now := s.controller, s.method, time.Now()
	c.mu.Lock()
	m.limit.inFlight--
	if !m.held {
		c.limit.inFlight--
	}
	if result != NoSample && !m.held {
		took := now.Sub(s.began)
		if result == Answered {
			m.learn(took, c.limit.isIdle())
		}
		allowed := m.allowed()
		if result == Throttled {
			took = 2 * allowed
		}
		ended := call{
			began: s.began, ended: now, share: float64(took) / float64(allowed), inFlight: s.inFlight,
			timedOut: result == TimedOut,
		}
		c.limit.sample(ended)
		ended.inFlight = s.ofMethod
		m.limit.sample(ended)
	}
	if until := now.Add(retryAfter); retryAfter > 0 && until.After(c.notBefore) {
		c.notBefore = until
	}
	var all grants
	if c.queue.len > 0 {
		all = c.grantAll()
	}
	c.mu.Unlock()
	all.call()
}

// State is what a controller does at a moment.
type State struct {
	// Limit is how many commands may be in flight.
	Limit int

	// InFlight is how many are in flight.
	InFlight int

	// Waiting is how many wait for a slot.
	Waiting int
}

// State returns what the controller does now.
func (c *Controller) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return State{Limit: int(c.limit.value), InFlight: c.limit.inFlight, Waiting: c.queue.len}
}

// FirstWaitsSince returns since when the command of class First of a definition waits that is next. It returns false if
// none waits, or if it isn't other commands that they wait for.
func (c *Controller) FirstWaitsSince(definition string) (since time.Time, waits bool) {
	if c.waiting.Load() == 0 {
		return time.Time{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held {
		return time.Time{}, false
	}
	return c.queue.waitsSince(First, definition)
}

// Close gives no further slots. Those who wait are never told.
func (c *Controller) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed, c.queue = true, queue{}
	if c.timer != nil {
		c.timer.Stop()
	}
}
