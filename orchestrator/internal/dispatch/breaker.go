package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

const (
	// probeInitial and probeMax bound the wait before a participant that answered UNAVAILABLE is tried again. It doubles.
	probeInitial = 100 * time.Millisecond
	probeMax     = 5 * time.Second

	// waveTime is how long the calls that were let through may take before the next ones are, while none of them failed:
	// a woken saga may have no call to make any more, and a call may take an hour.
	waveTime = 2 * time.Second

	// slowStartEnd is the wave after which everybody is let through.
	slowStartEnd = 256
)

// link is what a breaker needs of a connection.
type link interface {
	GetState() connectivity.State
	WaitForStateChange(ctx context.Context, from connectivity.State) bool
	Connect()
}

// reach is what a call tells about whether its participant can be reached.
type reach int

const (
	// answered: the participant said something other than that it is unavailable.
	answered reach = iota

	// slow: there is a connection, but no answer came in time.
	slow

	// cutOff: the orchestrator ended the call; it tells nothing.
	cutOff

	// unavailable: the participant said so.
	unavailable

	// disconnected: there is no connection, or none any more.
	disconnected
)

// phase is where a breaker stands, in the two lowest bits; the others count the changes, so that a call which began before a
// change has no say after it.
type phase uint64

const (
	closed phase = iota
	open
	halfOpen

	phaseBits = 2
	phaseMask = 1<<phaseBits - 1
)

func (p phase) is(what phase) bool { return p&phaseMask == what }

func (p phase) next(what phase) phase { return (p>>phaseBits+1)<<phaseBits | what }

// breaker parks the calls of one participant while it is down. It opens when there is no connection, or when
// several calls in a row find the participant unavailable. While it is open, one goroutine waits for the connection to
// come back, or for the next probe's time. Then it is half open: one parked call is woken, then two, then four, as long
// as they succeed, and at last everybody.
type breaker struct {
	breakerParams

	// phase and failures are all that a call looks at while the breaker is closed.
	phase    atomic.Uint64
	failures atomic.Int32

	// stop ends the goroutine; changed wakes it in the half-open phase.
	stop    context.CancelFunc
	stopped context.Context
	changed chan struct{}
	running sync.WaitGroup

	// mu guards what follows, and changes of phase.
	mu     sync.Mutex
	parked queue
	shut   bool

	// free is how many more calls of the present wave are let through without being parked; ended is how many calls ended.
	free, ended int
}

type breakerParams struct {
	target     string
	link       link
	breakAfter int
	telemetry  *telemetry.Telemetry
	logger     *slog.Logger
	rand       func() float64
}

func newBreaker(params breakerParams) *breaker {
	b := &breaker{breakerParams: params, changed: make(chan struct{}, 1)}
	b.stopped, b.stop = context.WithCancel(context.Background())
	return b
}

func (b *breaker) load() phase { return phase(b.phase.Load()) }

// begin returns the ticket with which a call reports its end.
func (b *breaker) begin() phase { return b.load() }

// end takes what a call tells about the participant.
func (b *breaker) end(ticket phase, r reach) {
	switch {
	case r == cutOff:
	case ticket.is(closed):
		b.endClosed(ticket, r)
	case ticket.is(halfOpen):
		b.endHalfOpen(ticket, r)
	}
}

func (b *breaker) endClosed(ticket phase, r reach) {
	switch r {
	case answered:
		if b.failures.Load() != 0 {
			b.failures.Store(0)
		}
	case unavailable:
		if b.load() == ticket && int(b.failures.Add(1)) >= b.breakAfter {
			b.open(ticket)
		}
	case disconnected:
		b.open(ticket)
	}
}

func (b *breaker) endHalfOpen(ticket phase, r reach) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.load() != ticket {
		return
	}
	if r == unavailable || r == disconnected {
		b.phase.Store(uint64(ticket.next(open)))
	} else {
		b.ended++
	}
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// open opens the breaker, unless its phase changed since the ticket.
func (b *breaker) open(ticket phase) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.load() != ticket || b.shut {
		return
	}
	b.failures.Store(0)
	b.phase.Store(uint64(ticket.next(open)))
	var wait time.Duration
	if b.link.GetState() == connectivity.Ready {
		wait = probeInitial // there is a connection; it is the participant that is unavailable
	}
	b.running.Go(func() { b.run(wait) })
	b.telemetry.BreakerOpened(b.target)
	b.logger.Warn("participant is down: its commands wait until it is back", "target", b.target)
}

// park queues wake and returns true unless a call may be made now.
func (b *breaker) park(wake func()) (cancel func(), parked bool) {
	if b.load().is(closed) {
		return nil, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.load()
	switch {
	case p.is(closed) || b.shut:
		return nil, false
	case p.is(halfOpen) && b.free > 0:
		b.free--
		return nil, false
	}
	e := b.parked.push(wake)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.parked.remove(e)
	}, true
}

// close stops the goroutine and forgets who is parked.
func (b *breaker) close() {
	b.mu.Lock()
	b.shut = true
	b.parked = queue{}
	b.mu.Unlock()
	b.stop()
	b.running.Wait()
}

// run brings an open breaker back to closed. It waits before the first probe, and longer before each further one.
func (b *breaker) run(wait time.Duration) {
	for {
		if !b.pause(wait) || !b.connect() {
			return
		}
		if b.letThrough() {
			return
		}
		wait = min(max(2*wait, probeInitial), probeMax)
	}
}

// pause waits, with jitter; it returns false when the breaker is shut.
func (b *breaker) pause(wait time.Duration) bool {
	if wait == 0 {
		return b.stopped.Err() == nil
	}
	timer := time.NewTimer(wait/2 + time.Duration(b.rand()*float64(wait/2)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-b.stopped.Done():
		return false
	}
}

// connect waits until there is a connection; it returns false when the breaker is shut.
func (b *breaker) connect() bool {
	for {
		state := b.link.GetState()
		switch state {
		case connectivity.Ready:
			return b.stopped.Err() == nil
		case connectivity.Shutdown:
			return false
		case connectivity.Idle:
			b.link.Connect()
		}
		if !b.link.WaitForStateChange(b.stopped, state) {
			return false
		}
	}
}

// letThrough half-opens the breaker and wakes the parked in growing waves. It returns true when the breaker is closed or
// shut, and false when a call failed and the breaker is open again.
func (b *breaker) letThrough() bool {
	b.mu.Lock()
	mine := b.load().next(halfOpen)
	b.phase.Store(uint64(mine))
	b.mu.Unlock()

	timer := time.NewTimer(waveTime)
	defer timer.Stop()
	for wave := 1; wave <= slowStartEnd; wave *= 2 {
		awake, ok := b.wave(mine, wave)
		if !ok {
			break
		}
		awake.wakeAll()
		timer.Reset(waveTime)
		switch b.await(mine, wave, timer.C) {
		case waveFailed:
			return false
		case waveShut:
			return true
		}
	}

	b.mu.Lock()
	if b.load() != mine {
		b.mu.Unlock()
		return b.stopped.Err() != nil
	}
	b.phase.Store(uint64(mine.next(closed)))
	everybody := b.parked.take(b.parked.len)
	b.mu.Unlock()
	b.telemetry.BreakerClosed(b.target)
	b.logger.Info("participant is back", "target", b.target, "waiting", everybody.len)
	everybody.wakeAll()
	return true
}

// wave takes the next to be woken. It returns false when nobody but the first waits, or the phase changed.
func (b *breaker) wave(mine phase, size int) (awake queue, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.load() != mine || (size > 1 && b.parked.len == 0) {
		return queue{}, false
	}
	b.free, b.ended = size, 0
	return b.parked.take(size), true
}

// waveEnd is how a wave ended.
type waveEnd int

const (
	wavePassed waveEnd = iota
	waveFailed
	waveShut
)

// await waits until the calls of a wave have ended, or its time is over, or one of them found the participant
// unavailable.
func (b *breaker) await(mine phase, size int, over <-chan time.Time) waveEnd {
	for {
		select {
		case <-b.changed:
			b.mu.Lock()
			same, ended := b.load() == mine, b.ended
			b.mu.Unlock()
			if !same {
				return waveFailed
			}
			if ended >= size {
				return wavePassed
			}
		case <-over:
			return wavePassed
		case <-b.stopped.Done():
			return waveShut
		}
	}
}

// parkedNow returns how many calls are parked.
func (b *breaker) parkedNow() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.parked.len
}
