package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// watchers begins to watch a saga n times.
func (w *fixture) watchers(n int, id string) []*engine.SagaWatch {
	watches := make([]*engine.SagaWatch, n)
	for i := range watches {
		watches[i] = w.engine.Watch(id)
		w.t.Cleanup(watches[i].Close)
	}
	return watches
}

// TestWatchersShareViews watches a saga a hundred times while it runs and is compensated. The saga is read from the
// store once, and each change is rendered and serialized once.
func TestWatchersShareViews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		var loads, encodings, views int
		w.store = &hooked{Store: w.store, onLoad: func() { loads++ }}
		w.open()
		w.participant.answer("action 4", refused)
		var releases []func()
		for _, command := range []string{"action 1", "action 2", "action 3", "action 4", "compensation 2"} {
			releases = append(releases, w.participant.stall(command))
		}
		handle := w.start(4)
		synctest.Wait()
		watches := w.watchers(100, handle.ID)
		check := func(when string) (last *treatyv1.Saga) {
			t.Helper()
			pass(time.Second)
			var first *engine.SagaView
			for _, watch := range watches {
				view, err := watch.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first, views = view, views+1
				}
				if view != first {
					t.Fatalf("%s: two watchers have got different views", when)
				}
				if _, err := view.Encoded(func(*treatyv1.Saga) ([]byte, error) {
					encodings++
					return nil, nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			if encodings != views {
				t.Errorf("%s: %d views were serialized %d times", when, views, encodings)
			}
			if loads != 1 {
				t.Errorf("%s: the saga was read from the store %d times, want once", when, loads)
			}
			before := loads
			// That an attempt begins isn't a change.
			if diff := cmp.Diff(w.get(handle.ID), first.Saga, protocmp.Transform(),
				protocmp.IgnoreFields(new(treatyv1.Step), "attempts")); diff != "" {
				t.Errorf("%s: the view differs (-stored +seen):\n%s", when, diff)
			}
			loads = before
			return first.Saga
		}
		check("at first")
		for i, release := range releases {
			release()
			last := check(fmt.Sprintf("after call %d", i+1))
			if ended := last.GetEndTime() != nil; ended != (i == len(releases)-1) {
				t.Errorf("after call %d, it is %v", i+1, last.GetState())
			}
		}
	})
}

// TestWatcherSkipsToTheNewest lets changes pass while a watcher is busy. It gets the newest view, and no more until the
// saga changes again.
func TestWatcherSkipsToTheNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		first, second := w.participant.stall("action 1"), w.participant.stall("action 4")
		handle := w.start(4)
		watch := w.watchers(1, handle.ID)[0]
		nextView(t, watch)
		first()
		pass(time.Second)
		if got := len(nextView(t, watch).GetSteps()); got != 4 {
			t.Errorf("it sees %d steps, want 4", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if view, err := watch.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a change, it sees %v, %v", view, err)
		}
		second()
		if got := nextView(t, watch).GetState(); got != succeeded {
			t.Errorf("at the end, it is %v", got)
		}
	})
}

// TestChangesInQuickSuccession watches a saga of 300 steps that take 2 ms each. They make few views, and the last one
// shows the end.
func TestChangesInQuickSuccession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		w.store = &hooked{Store: w.store, onAppend: func([]*journal.Entry) error {
			pass(2 * time.Millisecond)
			return nil
		}}
		w.open()
		handle := w.start(300)
		watch := w.watchers(1, handle.ID)[0]
		views := 1
		for nextView(t, watch).GetEndTime() == nil {
			views++
		}
		if views < 10 || views > 15 {
			t.Errorf("there were %d views in 600 ms, want one in about 50 ms", views)
		}
	})
}

// TestWatcherMissesATurn has a feed miss a turn. It reads the saga again.
func TestWatcherMissesATurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		release := w.participant.stall("action 2")
		handle := w.start(2)
		synctest.Wait()
		watch := w.watchers(1, handle.ID)[0]
		nextView(t, watch)
		w.engine.MissTurn(handle.ID)
		if diff := cmp.Diff(w.get(handle.ID), nextView(t, watch), protocmp.Transform()); diff != "" {
			t.Errorf("(-stored +seen):\n%s", diff)
		}
		release()
		if got := nextView(t, watch).GetState(); got != succeeded {
			t.Errorf("at the end, it is %v", got)
		}
	})
}

// TestWatchUnknownSaga watches a saga that doesn't exist, and sees it once it does.
func TestWatchUnknownSaga(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		if _, err := w.watchers(1, "late")[0].Next(t.Context()); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		if _, err := w.engine.Start(t.Context(), engine.StartParams{
			Definition: definition, Request: request(t, 1), SagaID: "late",
		}); err != nil {
			t.Fatal(err)
		}
		if got := nextView(t, w.watchers(1, "late")[0]).GetName(); got != "sagas/late" {
			t.Errorf("got %s", got)
		}
	})
}

// TestWatchEndsWithTheEngine stops the engine while somebody watches.
func TestWatchEndsWithTheEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		defer w.participant.stall("action 1")()
		watch := w.watchers(1, w.start(1).ID)[0]
		nextView(t, watch)
		w.stop()
		var err error
		for err == nil {
			_, err = watch.Next(t.Context())
		}
		if !errors.Is(err, engine.ErrStopping) {
			t.Errorf("got %v", err)
		}
	})
}

// rowReads is a store that counts how often rows are read.
type rowReads struct {
	journal.Store

	count atomic.Int64
}

func (r *rowReads) Get(ctx context.Context, id string) (*journal.Row, error) {
	r.count.Add(1)
	return r.Store.Get(ctx, id)
}

// TestWaitingReadsOnlyTheEnd waits for the end of a saga of many steps. Who waits reads nothing in between.
func TestWaitingReadsOnlyTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		reads := &rowReads{Store: &hooked{Store: w.store, onAppend: func([]*journal.Entry) error {
			pass(2 * time.Millisecond)
			return nil
		}}}
		w.store = reads
		w.open()
		handle := w.start(50)
		if got := w.await(handle.ID); got != succeeded {
			t.Errorf("it is %v", got)
		}
		if got := reads.count.Load(); got != 2 {
			t.Errorf("the row was read %d times, want twice", got)
		}
	})
}
