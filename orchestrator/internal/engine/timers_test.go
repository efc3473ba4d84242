package engine_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// TestScanKeepsNewerTimers sets timers during a scan. They replace those that the scan has read.
func TestScanKeepsNewerTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var release func()
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			err := saga.All(ctx,
				func(ctx saga.Context) error { saga.Sleep(ctx, 170*time.Second); return nil },
				func(ctx saga.Context) error {
					if err := work(ctx, 1); err != nil {
						return err
					}
					saga.Sleep(ctx, 5*time.Second)
					return work(ctx, 2)
				})
			return &benchv1.RunDone{}, err
		})
		w.stop()
		var watching atomic.Bool
		began := make(chan time.Time, 1)
		w.store = &hooked{Store: w.store, afterDue: func() {
			if watching.Swap(false) { // the scan after a minute has read
				release()
				began <- time.Now()
				<-time.After(time.Second) // while the saga continues
			}
		}}
		w.open()
		release = w.participant.stall("action 1.2.1")
		handle := w.start(1)
		<-w.participant.held
		watching.Store(true)
		at := <-began
		for {
			pass(100 * time.Millisecond)
			if seen := w.participant.seen(); len(seen) > 1 {
				break
			}
		}
		if took := time.Since(at); took > 6*time.Second {
			t.Errorf("a sleep of 5 s took %v", took)
		}
		w.await(handle.ID)
	})
}

// TestStopAwaitsAScan stops the engine while the timers are read from the store. The store may be closed afterwards.
func TestStopAwaitsAScan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		reading, release := make(chan struct{}, 1), make(chan struct{})
		var watching, stopped atomic.Bool
		w.store = &hooked{Store: w.store, afterDue: func() {
			if watching.Swap(false) {
				reading <- struct{}{}
				<-release
				if stopped.Load() {
					t.Error("the store is read after the engine has stopped")
				}
			}
		}}
		w.open()
		watching.Store(true)
		<-reading
		done := make(chan struct{})
		go func() {
			w.engine.Stop(t.Context())
			stopped.Store(true)
			close(done)
		}()
		synctest.Wait()
		close(release)
		<-done
	})
}

// settable is a clock that a test sets.
type settable struct{ offset atomic.Int64 }

func (c *settable) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

// set makes the clock differ from the time that has passed.
func (c *settable) set(offset time.Duration) { c.offset.Store(int64(offset)) }

// reopen opens the store with an engine that has this clock.
func (w *fixture) reopen(clock *settable) {
	w.t.Helper()
	w.stop()
	w.now = clock.now
	w.open()
}

// TestTimersFollowTheClock sets the clock while a saga sleeps. The saga continues when the clock says so.
func TestTimersFollowTheClock(t *testing.T) {
	type setting struct{ after, offset time.Duration }
	for _, test := range []struct {
		name  string
		sleep time.Duration
		set   []setting
		want  time.Duration // since the start
	}{
		{"back by a millisecond", 10 * time.Second, []setting{{0, -time.Millisecond}}, 10 * time.Second},
		{"back by an hour", 30 * time.Second, []setting{{10 * time.Second, -time.Hour}},
			time.Hour + 30*time.Second},
		{"back by an hour, and returns before it is due", 30 * time.Second,
			[]setting{{10 * time.Second, -time.Hour}, {20 * time.Second, 0}}, 30 * time.Second},
		{"back by an hour, and returns after it is due", 30 * time.Second,
			[]setting{{10 * time.Second, -time.Hour}, {70 * time.Second, 0}}, 70 * time.Second},
		{"ahead by an hour", 90 * time.Second, []setting{{10 * time.Second, time.Hour}}, 10 * time.Second},
		{"ahead by an hour, with a timer that is in the store alone", 50 * time.Minute,
			[]setting{{10 * time.Second, time.Hour}}, 10 * time.Second},
		{"ahead by a minute, and returns", 10 * time.Minute,
			[]setting{{10 * time.Second, time.Minute}, {20 * time.Second, 0}}, 10 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
					saga.Sleep(ctx, test.sleep)
					return &benchv1.RunDone{}, nil
				})
				clock := new(settable)
				w.reopen(clock)
				pass(500 * time.Millisecond)
				began := time.Now()
				handle := w.start(1)
				for _, s := range test.set {
					pass(s.after - time.Since(began))
					clock.set(s.offset)
				}
				w.await(handle.ID)
				if took := time.Since(began); took < test.want || took > test.want+1100*time.Millisecond {
					t.Errorf("the saga continued after %v, want %v", took, test.want)
				}
			})
		})
	}
}
