package engine_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
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

// TestClockIsPutBack turns the clock back before a timer fires. The timer is set again and fires when it is due.
func TestClockIsPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			saga.Sleep(ctx, 10*time.Second)
			return &benchv1.RunDone{}, nil
		})
		w.stop()
		var back atomic.Int64
		config := engine.Config{Store: w.store, Dispatcher: w.participant, Catalog: w.catalog, Definitions: w.code}
		w.engine, _ = engine.New(w.t.Context(), engine.WithNow(config, func() time.Time {
			return time.Now().Add(-time.Duration(back.Load()))
		}))
		if _, err := w.engine.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		handle := w.start(1)
		back.Store(int64(time.Millisecond))
		w.await(handle.ID)
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("a sleep of 10 s took %v after the clock was put back by 1 ms", took)
		}
	})
}
