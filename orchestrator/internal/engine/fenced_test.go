package engine_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// TestFenced lets another process take the sagas over. The engine learns it from the store, which refuses a commit, or
// from whoever knows how long it may drive them. It sends nothing more, and doesn't try again.
func TestFenced(t *testing.T) {
	for name, told := range map[string]bool{"by the store": false, "by the lease": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var lost, ended atomic.Bool
				var appended, fenced, unwritable atomic.Int32
				w := newFixture(t)
				w.stop()
				w.store = &hooked{Store: w.store, onAppend: func([]*journal.Entry) error {
					if !lost.Load() {
						return nil
					}
					appended.Add(1)
					return journal.ErrFenced
				}}
				w.valid = func() bool { return !ended.Load() }
				w.fenced = func() {
					fenced.Add(1)
					ended.Store(true)
				}
				w.writable = func(error) { unwritable.Add(1) }
				w.open()
				release := w.participant.stall("action 2")
				sending := w.start(3)
				<-w.participant.held
				synctest.Wait()
				lost.Store(true)
				ended.Store(told)
				calls := w.participant.seen()
				release()
				synctest.Wait()
				pass(time.Hour)
				synctest.Wait()
				if got := w.participant.seen(); !slices.Equal(got, calls) {
					t.Errorf("it called %q after %q", got, calls)
				}
				// The outcome of what was under way is committed, unless the store refuses it.
				if appended.Load() != 1 || fenced.Load() != 1 {
					t.Errorf("it tried %d commits and said %d times that it is fenced", appended.Load(), fenced.Load())
				}
				if unwritable.Load() != 0 {
					t.Error("it says that the store can't be written")
				}
				_, startErr := w.engine.Start(t.Context(),
					engine.StartParams{Definition: definition, Request: request(t, 1)})
				cancelErr := w.engine.Cancel(t.Context(), sending.ID, byAnn)
				for call, err := range map[string]error{"start": startErr, "cancel": cancelErr} {
					if !errors.Is(err, journal.ErrFenced) || errors.Is(err, engine.ErrInDoubt) {
						t.Errorf("%s: got %v, want that another process drives it", call, err)
					}
				}
				if err := w.engine.Condition(); !errors.Is(err, journal.ErrFenced) {
					t.Errorf("the condition is %v", err)
				}
				w.stop()

				// The next owner goes on.
				lost.Store(false)
				w.valid, w.fenced = nil, nil
				w.open()
				if got := w.await(sending.ID); got != succeeded {
					t.Errorf("at the next owner, the saga ends as %v", got)
				}
			})
		})
	}
}

// TestElsewhere uses sagas of another shard of the store.
func TestElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var loads atomic.Int32
		w := newFixture(t)
		params := engine.StartParams{Definition: definition, Request: request(t, 1), RequestID: "r"}
		handle, err := w.engine.Start(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		if got := w.await(handle.ID); got != succeeded {
			t.Fatalf("the saga ends as %v", got)
		}
		w.stop()
		w.store = &hooked{Store: w.store, loadErr: func(id string) error {
			loads.Add(1)
			return &journal.ElsewhereError{Saga: id, Shard: 7}
		}}
		w.open()
		_, startErr := w.engine.Start(t.Context(), params)
		_, getErr := w.engine.Get(t.Context(), handle.ID)
		for call, err := range map[string]error{
			"start": startErr, "get": getErr, "cancel": w.engine.Cancel(t.Context(), handle.ID, byAnn),
		} {
			elsewhere, is := errors.AsType[*journal.ElsewhereError](err)
			if !is || elsewhere.Shard != 7 || errors.Is(err, engine.ErrInDoubt) {
				t.Errorf("%s: got %v, want the saga's shard", call, err)
			}
		}
		before := loads.Load()
		pass(time.Hour)
		synctest.Wait()
		if after := loads.Load(); after != before {
			t.Errorf("it was tried again %d times", after-before)
		}
		if err := w.engine.Damage(handle.ID); err != nil {
			t.Errorf("the saga counts as damaged: %v", err)
		}
	})
}

// TestWake publishes an event at another process, which shares the store.
func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			_, err := identityv1saga.AwaitApplicantVerified(ctx, "applicants/ada")
			return &benchv1.RunDone{}, err
		})
		handle := w.start(1)
		synctest.Wait()
		event := verified("applicants/ada")
		event.StoreTime = time.Now()
		entry := &journal.Entry{Events: []*journal.Event{event}}
		if err := w.store.Append(t.Context(), []*journal.Entry{entry}); err != nil || entry.Err != nil {
			t.Fatal(err, entry.Err)
		}
		if !slices.Equal(entry.Woken, []string{handle.ID}) {
			t.Fatalf("the event woke %q", entry.Woken)
		}
		w.engine.Wake(entry.Woken...)
		if got := w.await(handle.ID); got != succeeded {
			t.Errorf("the saga ends as %v", got)
		}
	})
}
