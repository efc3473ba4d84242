package dispatch

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// breaker is the circuit breaker of one participant, with all its addresses. It holds calls back while the participant
// is down.
//
//   - Closed: every call may be made. The breaker opens when a call finds no connection to any address, when breakAfter
//     calls in a row ended with UNAVAILABLE, or when no call has been answered for a while. A connection that breaks
//     opens nothing by itself, since servers and balancers close old ones: it counts as one call that ended with
//     UNAVAILABLE, however many were in flight.
//   - Open: no call may be made; calls wait. One goroutine waits until there is a connection, and then half-opens the
//     breaker.
//   - Half open: one waiting call is woken as a probe, then two, then four and so on, while none of them fails. Then
//     the breaker is closed and wakes all others. When one fails, it is open again. If it was opened because nothing
//     was answered, one more is woken at a time until one is answered.
//
// All methods may be called concurrently.
type breaker struct {
	breakerParams

	// generation and failures are all that a call reads while the breaker is closed.
	generation atomic.Uint64
	failures   atomic.Int32

	// ctx ends when the breaker is stopped, and with it the goroutine.
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	// progress has room for one signal to the goroutine: a call ended while the breaker was half open.
	progress chan struct{}

	// mu guards what follows, and changes of generation.
	mu      sync.Mutex
	waiting waitlist
	stopped bool

	// While the breaker is half open, admitted is how many more calls of the current wave may be made without
	// waiting, and finished is how many have ended.
	admitted, finished int

	// silent says that the breaker opened because no call was answered, and none has been since.
	silent bool
}

type breakerParams struct {
	services   []string // of the participant
	target     string
	connection connection
	why        func() string // why there is no connection; "" if that isn't known
	breakAfter int
	telemetry  *telemetry.Telemetry
	logger     *slog.Logger
	rand       func() float64
}

// connection is the part of a grpc.ClientConn that a breaker needs.
type connection interface {
	GetState() connectivity.State
	WaitForStateChange(ctx context.Context, from connectivity.State) bool
	Connect()
}

// state is the state of a breaker.
type state uint64

const (
	closed state = iota
	open
	halfOpen
)

// generation is the time between two changes of a breaker's state. The lowest bits hold the state, the others count the
// changes. A call that ends in a later generation than it began in doesn't change the breaker.
type generation uint64

const (
	stateBits = 2
	stateMask = 1<<stateBits - 1
)

func (g generation) is(s state) bool { return state(g&stateMask) == s }

func (g generation) next(s state) generation { return (g>>stateBits+1)<<stateBits | generation(s) }

func newBreaker(params breakerParams) *breaker {
	b := &breaker{breakerParams: params, progress: make(chan struct{}, 1)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// current returns the current generation.
func (b *breaker) current() generation { return generation(b.generation.Load()) }

// change begins the next generation. The caller holds the lock.
func (b *breaker) change(from generation, to state) generation {
	next := from.next(to)
	b.generation.Store(uint64(next))
	return next
}

// wait returns false when a call may be made now. Otherwise it returns true, and wake is called when the call may be
// made. cancel removes wake.
func (b *breaker) wait(wake func()) (cancel func(), waiting bool) {
	if b.current().is(closed) {
		return nil, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.current()
	switch {
	case now.is(closed) || b.stopped:
		return nil, false
	case now.is(halfOpen) && b.admitted > 0:
		b.admitted--
		return nil, false
	}
	w := b.waiting.add(wake)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.waiting.remove(w)
	}, true
}

// begin returns the generation in which a call begins. The call passes it to end.
func (b *breaker) begin() generation { return b.current() }

// end reports the end of a call.
func (b *breaker) end(began generation, h health) {
	switch {
	case h == cancelled:
	case began.is(closed):
		b.endClosed(began, h)
	case began.is(halfOpen):
		b.endHalfOpen(began, h)
	}
}

func (b *breaker) endClosed(began generation, h health) {
	switch h {
	case answered:
		if b.failures.Load() != 0 {
			b.failures.Store(0)
		}
	case unavailable, unsent:
		if b.current() == began && int(b.failures.Add(1)) >= b.breakAfter {
			b.trip(began, h)
		}
	case cut:
		b.countCut(began)
	case silent, disconnected:
		b.trip(began, h)
	}
}

// countCut counts a call that was cut off as a failure. It begins a new generation, so that the calls that were in
// flight with it aren't counted, too.
func (b *breaker) countCut(began generation) {
	b.mu.Lock()
	if b.current() != began || b.stopped {
		b.mu.Unlock()
		return
	}
	failures := int(b.failures.Add(1))
	next := b.change(began, closed)
	b.mu.Unlock()
	if failures >= b.breakAfter {
		b.trip(next, cut)
	}
}

func (b *breaker) endHalfOpen(began generation, h health) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current() != began {
		return
	}
	switch h {
	case unavailable, unsent, cut, disconnected:
		b.change(began, open)
	case silent:
		b.silent = true
		b.change(began, open)
	case timedOut:
		if b.silent {
			b.change(began, open)
		} else {
			b.finished++ // there is a connection again
		}
	default:
		b.silent = false
		b.finished++
	}
	select {
	case b.progress <- struct{}{}:
	default:
	}
}

// trip opens a closed breaker for what was found, unless its state has changed since the given generation.
func (b *breaker) trip(from generation, found health) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current() != from || b.stopped {
		return
	}
	b.failures.Store(0)
	b.silent = found == silent
	b.change(from, open)
	var delay time.Duration
	if b.connection.GetState() == connectivity.Ready {
		delay = initialProbeDelay // the connection works, but the participant is unavailable
	}
	b.running.Go(func() { b.awaitRecovery(delay) })
	b.telemetry.BreakerOpened(b.target)
	about := append(b.about(), "cause", found.String())
	if why := b.why(); why != "" {
		about = append(about, "error", why)
	}
	b.logger.Warn("participant is down: its commands wait until it is back", about...)
}

// about returns the attributes of a log line that say which participant it is about.
func (b *breaker) about() []any {
	return []any{"participant", b.services[0], "services", strings.Join(b.services, ","), "target", b.target}
}

// close stops the breaker and its goroutine. Waiting calls are never woken.
func (b *breaker) close() {
	b.mu.Lock()
	b.stopped = true
	b.waiting = waitlist{}
	b.mu.Unlock()
	b.cancel()
	b.running.Wait()
}
