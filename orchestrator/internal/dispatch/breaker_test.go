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

// fakeLink is a connection whose state the test sets.
type fakeLink struct {
	mu       sync.Mutex
	state    connectivity.State
	change   chan struct{}
	connects int
}

func newFakeLink(state connectivity.State) *fakeLink {
	return &fakeLink{state: state, change: make(chan struct{})}
}

func (l *fakeLink) GetState() connectivity.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

func (l *fakeLink) WaitForStateChange(ctx context.Context, from connectivity.State) bool {
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

func (l *fakeLink) Connect() {
	l.mu.Lock()
	l.connects++
	l.mu.Unlock()
	l.set(connectivity.Connecting)
}

func (l *fakeLink) set(state connectivity.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
	close(l.change)
	l.change = make(chan struct{})
}

// bench is a breaker under test with the calls that it woke, in order.
type bench struct {
	*breaker
	link  *fakeLink
	wakes sync.Mutex
	woken []int
}

func (b *bench) wake(i int) {
	b.wakes.Lock()
	defer b.wakes.Unlock()
	b.woken = append(b.woken, i)
}

func (b *bench) wokenNow() []int {
	b.wakes.Lock()
	defer b.wakes.Unlock()
	return slices.Clone(b.woken)
}

func newBench(t *testing.T, state connectivity.State) *bench {
	t.Helper()
	link := newFakeLink(state)
	b := &bench{link: link, breaker: newBreaker(breakerParams{
		target: "test", link: link, breakAfter: 3, logger: quiet, rand: func() float64 { return 1 },
	})}
	t.Cleanup(b.close)
	return b
}

// call reports one call that begins and ends now.
func (b *bench) call(r reach) { b.end(b.begin(), r) }

// parkMany parks n calls, numbered from first. A wake appends to woken.
func (b *bench) parkMany(t *testing.T, first, n int) []func() {
	t.Helper()
	var cancels []func()
	for i := first; i < first+n; i++ {
		cancel, parked := b.park(func() { b.wake(i) })
		if !parked {
			t.Fatalf("call %d isn't parked", i)
		}
		cancels = append(cancels, cancel)
	}
	return cancels
}

func (b *bench) expectPassing(t *testing.T) {
	t.Helper()
	if cancel, parked := b.park(func() { t.Error("a call that passed was woken") }); parked {
		cancel()
		t.Fatal("the call is parked")
	}
}

func (b *bench) expectWoken(t *testing.T, n int) {
	t.Helper()
	synctest.Wait()
	if woken := b.wokenNow(); len(woken) != n {
		t.Fatalf("%d calls are woken, want %d", len(woken), n)
	}
}

func TestBreakerOpensAfterFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, connectivity.Ready)
		for range 5 {
			b.call(unavailable)
			b.call(unavailable)
			b.call(answered) // not in a row
		}
		b.call(unavailable)
		b.call(slow)
		b.call(cutOff)
		b.call(unavailable)
		b.expectPassing(t)
		b.call(unavailable)
		b.parkMany(t, 0, 1)
	})
}

func TestBreakerOpensAtOnceWithoutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, connectivity.TransientFailure)
		b.call(disconnected)
		b.parkMany(t, 0, 1)

		<-time.After(24 * time.Hour) // no wake, and nothing polls, however long it takes
		b.expectWoken(t, 0)

		b.link.set(connectivity.Ready)
		b.expectWoken(t, 1)
		b.expectPassing(t) // as the probe, for the woken call doesn't ask again
		if cancel, parked := b.park(func() {}); !parked {
			t.Error("the half-open breaker lets a second newcomer through")
		} else {
			cancel()
		}
		b.call(answered)
		synctest.Wait()
		b.expectPassing(t)
	})
}

func TestBreakerWakesInGrowingWaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const herd = 100_000
		b := newBench(t, connectivity.TransientFailure)
		b.call(disconnected)
		b.parkMany(t, 0, herd)
		b.link.set(connectivity.Ready)
		woken := 0
		for wave := 1; wave <= slowStartEnd; wave *= 2 {
			woken += wave
			b.expectWoken(t, woken)
			for range wave {
				b.call(answered)
			}
		}
		b.expectWoken(t, herd)
		if !slices.IsSorted(b.wokenNow()) {
			t.Error("woken out of order")
		}
		b.expectPassing(t)
	})
}

func TestBreakerOpensAgainWhenAProbeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, connectivity.Ready) // the process is up but says that it is unavailable
		for range 3 {
			b.call(unavailable)
		}
		b.parkMany(t, 0, 20)
		b.expectWoken(t, 0)
		wait := probeInitial
		for probe := 1; probe <= 10; probe++ {
			<-time.After(wait - 1) // virtual time
			b.expectWoken(t, probe-1)
			<-time.After(1)         // virtual time
			b.expectWoken(t, probe) // one at a time
			b.call(unavailable)
			wait = min(2*wait, probeMax)
		}
		<-time.After(wait) // virtual time
		for b.load(); !b.load().is(closed); synctest.Wait() {
			b.call(answered)
		}
		b.expectWoken(t, 20)
	})
}

func TestBreakerGoesOnWhenTheWokenMakeNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, connectivity.TransientFailure)
		b.call(disconnected)
		b.parkMany(t, 0, 50)
		b.link.set(connectivity.Ready)
		b.expectWoken(t, 1)
		<-time.After(waveTime) // virtual time
		b.expectWoken(t, 3)
		<-time.After(time.Minute) // virtual time
		b.expectWoken(t, 50)
		b.expectPassing(t)
	})
}

func TestBreakerLetsWokenCallsAskAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, connectivity.TransientFailure)
		b.call(disconnected)
		var made atomic.Int64
		var ask func()
		ask = func() {
			if _, parked := b.park(ask); parked {
				return
			}
			made.Add(1)
			b.call(answered)
		}
		for range 1000 {
			if _, parked := b.park(ask); !parked {
				t.Fatal("not parked")
			}
		}
		b.link.set(connectivity.Ready)
		<-time.After(time.Minute) // virtual time
		synctest.Wait()
		if made.Load() != 1000 {
			t.Errorf("%d of 1000 calls were made", made.Load())
		}
	})
}

func TestBreakerForgetsWhoCancels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, connectivity.TransientFailure)
		b.call(disconnected)
		cancels := b.parkMany(t, 0, 10)
		for _, i := range []int{0, 4, 9, 4} { // the first, one in the middle, the last, one twice
			cancels[i]()
		}
		b.link.set(connectivity.Ready)
		<-time.After(time.Minute) // virtual time
		b.expectWoken(t, 7)
		if want := []int{1, 2, 3, 5, 6, 7, 8}; !slices.Equal(b.wokenNow(), want) {
			t.Errorf("woken: %v, want %v", b.wokenNow(), want)
		}
		for _, cancel := range cancels {
			cancel() // too late, and harmless
		}
	})
}

func TestBreakerIgnoresCallsFromBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, connectivity.TransientFailure)
		early := b.begin()
		b.call(disconnected)
		b.parkMany(t, 0, 3)
		b.link.set(connectivity.Ready)
		b.expectWoken(t, 1)
		b.end(early, disconnected) // the outage's last cry; the half-open breaker doesn't listen
		b.call(answered)
		b.expectWoken(t, 3)
		b.call(answered)
		b.call(answered)
		synctest.Wait()
		b.expectPassing(t)
		b.end(early, disconnected)
		b.expectPassing(t)
	})
}

func TestBreakerConnectsWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, connectivity.Idle)
		b.call(disconnected)
		b.parkMany(t, 0, 1)
		synctest.Wait()
		if b.link.connects != 1 {
			t.Errorf("it tried to connect %d times, want once", b.link.connects)
		}
		b.link.set(connectivity.Ready)
		b.expectWoken(t, 1)
	})
}

func TestBreakerCloses(t *testing.T) {
	for _, state := range []connectivity.State{connectivity.TransientFailure, connectivity.Ready, connectivity.Shutdown} {
		t.Run(state.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, state)
				b.call(disconnected)
				b.parkMany(t, 0, 3)
				b.close() // returns only when the goroutine has ended
				if _, parked := b.park(func() {}); parked {
					t.Error("parked for ever")
				}
				b.expectWoken(t, 0)
			})
		})
	}
}
