package dispatch

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/connectivity"
)

// fakeConnection is a connection whose state the test sets.
type fakeConnection struct {
	mu       sync.Mutex
	state    connectivity.State
	change   chan struct{}
	connects int
}

func newFakeConnection(state connectivity.State) *fakeConnection {
	return &fakeConnection{state: state, change: make(chan struct{})}
}

func (l *fakeConnection) GetState() connectivity.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *fakeConnection) WaitForStateChange(ctx context.Context, from connectivity.State) bool {
	l.mu.Lock()
	state, change := l.state, l.change
	l.mu.Unlock()
	if state != from {
		return true
	}
	select {
	case <-change:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *fakeConnection) Connect() {
	l.mu.Lock()
	l.connects++
	l.mu.Unlock()
	l.set(connectivity.Connecting)
}

func (l *fakeConnection) set(state connectivity.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
	close(l.change)
	l.change = make(chan struct{})
}

// fixture is a breaker under test, with the calls that it woke, in order.
type fixture struct {
	*breaker
	connection *fakeConnection
	wakes      sync.Mutex
	woken      []int
}

func (b *fixture) wake(i int) {
	b.wakes.Lock()
	defer b.wakes.Unlock()
	b.woken = append(b.woken, i)
}

func (b *fixture) wokenNow() []int {
	b.wakes.Lock()
	defer b.wakes.Unlock()
	return slices.Clone(b.woken)
}

func newFixture(t *testing.T, state connectivity.State) *fixture {
	t.Helper()
	conn := newFakeConnection(state)
	b := &fixture{connection: conn, breaker: newBreaker(breakerParams{
		services: []string{testService}, target: "test", connection: conn, breakAfter: 3, logger: quiet,
		why: func() string { return "" }, rand: func() float64 { return 1 },
	})}
	t.Cleanup(b.close)
	return b
}

// call reports one call that begins and ends now.
func (b *fixture) call(h health) { b.end(b.begin(), h) }

// addWaiting makes n calls wait, numbered from first. A wake appends to woken.
func (b *fixture) addWaiting(t *testing.T, first, n int) []func() {
	t.Helper()
	var cancels []func()
	for i := first; i < first+n; i++ {
		cancel, waiting := b.wait(func() { b.wake(i) })
		if !waiting {
			t.Fatalf("call %d doesn't wait", i)
		}
		cancels = append(cancels, cancel)
	}
	return cancels
}

func (b *fixture) expectNoWait(t *testing.T) {
	t.Helper()
	if cancel, waiting := b.wait(func() { t.Error("a call that doesn't wait was woken") }); waiting {
		cancel()
		t.Fatal("the call waits")
	}
}

func (b *fixture) expectWoken(t *testing.T, n int) {
	t.Helper()
	synctest.Wait()
	if woken := b.wokenNow(); len(woken) != n {
		t.Fatalf("%d calls are woken, want %d", len(woken), n)
	}
}

func TestBreakerOpensAfterFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.Ready)
		for range 5 {
			b.call(unavailable)
			b.call(unavailable)
			b.call(answered) // not in a row
		}
		b.call(unavailable)
		b.call(timedOut)
		b.call(cancelled)
		b.call(unavailable)
		b.expectNoWait(t)
		b.call(unavailable)
		b.addWaiting(t, 0, 1)
	})
}

func TestBreakerOpensAtOnceWithoutAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.TransientFailure)
		b.call(disconnected)
		b.addWaiting(t, 0, 1)

		<-time.After(24 * time.Hour) // virtual time
		b.expectWoken(t, 0)

		b.connection.set(connectivity.Ready)
		b.expectWoken(t, 1)
		b.expectNoWait(t) // the woken call asks again, and is the probe
		if cancel, waiting := b.wait(func() {}); !waiting {
			t.Error("the half-open breaker admits a second call")
		} else {
			cancel()
		}
		b.call(answered)
		synctest.Wait()
		b.expectNoWait(t)
	})
}

func TestBreakerWakesInGrowingWaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 100_000
		b := newFixture(t, connectivity.TransientFailure)
		b.call(disconnected)
		b.addWaiting(t, 0, calls)
		b.connection.set(connectivity.Ready)
		woken := 0
		for wave := 1; wave <= lastWave; wave *= 2 {
			woken += wave
			b.expectWoken(t, woken)
			for range wave {
				b.call(answered)
			}
		}
		b.expectWoken(t, calls)
		if !slices.IsSorted(b.wokenNow()) {
			t.Error("woken out of order")
		}
		b.expectNoWait(t)
	})
}

func TestBreakerReopensWhenAProbeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.Ready) // the process runs and answers UNAVAILABLE
		for range 3 {
			b.call(unavailable)
		}
		b.addWaiting(t, 0, 20)
		b.expectWoken(t, 0)
		delay := initialProbeDelay
		for probe := 1; probe <= 10; probe++ {
			<-time.After(delay - 1) // virtual time
			b.expectWoken(t, probe-1)
			<-time.After(1)         // virtual time
			b.expectWoken(t, probe) // one at a time
			b.call(unavailable)
			delay = min(2*delay, maxProbeDelay)
		}
		<-time.After(delay) // virtual time
		for !b.current().is(closed) {
			b.call(answered)
			synctest.Wait()
		}
		b.expectWoken(t, 20)
	})
}

func TestBreakerClosesWhenWokenSagasMakeNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.TransientFailure)
		b.call(disconnected)
		b.addWaiting(t, 0, 50)
		b.connection.set(connectivity.Ready)
		b.expectWoken(t, 1)
		<-time.After(waveTimeout) // virtual time
		b.expectWoken(t, 3)
		<-time.After(time.Minute) // virtual time
		b.expectWoken(t, 50)
		b.expectNoWait(t)
	})
}

func TestWokenCallsAskAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.TransientFailure)
		b.call(disconnected)
		var made atomic.Int64
		var ask func()
		ask = func() {
			if _, waiting := b.wait(ask); waiting {
				return
			}
			made.Add(1)
			b.call(answered)
		}
		for range 1000 {
			if _, waiting := b.wait(ask); !waiting {
				t.Fatal("the call doesn't wait")
			}
		}
		b.connection.set(connectivity.Ready)
		<-time.After(time.Minute) // virtual time
		synctest.Wait()
		if made.Load() != 1000 {
			t.Errorf("%d of 1000 calls were made", made.Load())
		}
	})
}

func TestBreakerCancelsWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.TransientFailure)
		b.call(disconnected)
		cancels := b.addWaiting(t, 0, 10)
		for _, i := range []int{0, 4, 9, 4} { // the first, a middle one, the last, and one twice
			cancels[i]()
		}
		b.connection.set(connectivity.Ready)
		<-time.After(time.Minute) // virtual time
		b.expectWoken(t, 7)
		if want := []int{1, 2, 3, 5, 6, 7, 8}; !slices.Equal(b.wokenNow(), want) {
			t.Errorf("woken: %v, want %v", b.wokenNow(), want)
		}
		for _, cancel := range cancels {
			cancel() // no longer has an effect
		}
	})
}

func TestBreakerIgnoresCallsOfAnEarlierGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.TransientFailure)
		early := b.begin()
		b.call(disconnected)
		b.addWaiting(t, 0, 3)
		b.connection.set(connectivity.Ready)
		b.expectWoken(t, 1)
		b.end(early, disconnected) // the half-open breaker ignores it
		b.call(answered)
		b.expectWoken(t, 3)
		b.call(answered)
		b.call(answered)
		synctest.Wait()
		b.expectNoWait(t)
		b.end(early, disconnected)
		b.expectNoWait(t)
	})
}

func TestBreakerConnectsWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.Idle)
		b.call(disconnected)
		b.addWaiting(t, 0, 1)
		synctest.Wait()
		if b.connection.connects != 1 {
			t.Errorf("it connected %d times, want once", b.connection.connects)
		}
		b.connection.set(connectivity.Ready)
		b.expectWoken(t, 1)
	})
}

func TestBreakerStops(t *testing.T) {
	for _, state := range []connectivity.State{
		connectivity.TransientFailure, connectivity.Ready, connectivity.Shutdown,
	} {
		t.Run(state.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newFixture(t, state)
				b.call(disconnected)
				b.addWaiting(t, 0, 3)
				b.close() // returns only when the goroutine has ended
				if _, waiting := b.wait(func() {}); waiting {
					t.Error("the call waits forever")
				}
				b.expectWoken(t, 0)
			})
		})
	}
}

// The calls that were in flight on a connection that breaks count once. Those that are made later count again, unless
// one was answered.
func TestBreakerCountsCutsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.Connecting)
		for range 3 {
			for range 2 { // two connections in a row
				var inFlight []generation
				for range 100 {
					inFlight = append(inFlight, b.begin())
				}
				for _, began := range inFlight {
					b.end(began, cut)
				}
				b.expectNoWait(t)
			}
			b.call(answered)
		}
		b.call(cut)
		b.call(cut)
		b.expectNoWait(t)
		b.call(cut)
		b.addWaiting(t, 0, 1)
	})
}

// A participant that has answered nothing for a while is tried with one call at a time.
func TestBreakerOfASilentParticipant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.Ready)
		b.call(timedOut)
		b.expectNoWait(t)
		b.call(silent)
		b.addWaiting(t, 0, 20)
		<-time.After(initialProbeDelay) // virtual time
		b.expectWoken(t, 1)
		b.call(timedOut) // the first probe
		b.expectWoken(t, 1)
		<-time.After(2 * initialProbeDelay) // virtual time
		b.expectWoken(t, 2)
		second := b.begin()
		<-time.After(waveTimeout) // virtual time; the second probe hasn't ended
		b.expectWoken(t, 3)
		b.call(answered)
		b.expectWoken(t, 5)
		b.end(second, timedOut)   // a method that hangs doesn't open it again
		<-time.After(time.Minute) // virtual time
		b.expectWoken(t, 20)
		b.expectNoWait(t)
	})
}

// A participant that answers UNAVAILABLE until it is restarted is tried as soon as there is a new connection.
func TestBreakerTriesANewConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newFixture(t, connectivity.Ready)
		for range 3 {
			b.call(unavailable)
		}
		b.addWaiting(t, 0, 20)
		delay := initialProbeDelay
		for range 8 {
			<-time.After(delay) // virtual time
			synctest.Wait()
			b.call(unavailable)
			delay = min(2*delay, maxProbeDelay)
		}
		tried := len(b.wokenNow())
		<-time.After(initialProbeDelay) // virtual time
		b.connection.set(connectivity.Connecting)
		b.expectWoken(t, tried)
		b.connection.set(connectivity.Ready)
		b.expectWoken(t, tried+1)
	})
}
