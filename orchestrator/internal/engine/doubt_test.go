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

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// TestFailedCommitIsUnknown fails each commit of a saga in turn, before the write and after it, with a store that
// doesn't answer for a while. The saga ends in the same way each time, and no recorded command is sent again.
func TestFailedCommitIsUnknown(t *testing.T) {
	for when, side := range map[journaltest.When]string{journaltest.BeforeCommit: "before",
		journaltest.AfterCommit: "after"} {
		for _, refusal := range []bool{false, true} {
			turns, want := 4, succeeded
			if refusal {
				turns, want = 6, compensated
			}
			for fail := 1; fail <= turns; fail++ {
				t.Run(fmt.Sprintf("%s/refusal=%v/turn=%d", side, refusal, fail), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						w := newFixture(t)
						w.stop()
						store := journaltest.NewFaults(w.store)
						store.Inject(journaltest.Fault{Append: fail, When: when, Loads: 3})
						w.store = store
						w.open()
						if refusal {
							w.participant.answer("action 3", refused)
						}
						params := engine.StartParams{Definition: definition, Request: request(t, 3), RequestID: "once"}
						handle, err := w.engine.Start(t.Context(), params)
						if fail == 1 {
							if !errors.Is(err, engine.ErrInDoubt) {
								t.Fatalf("a start whose commit failed: %v", err)
							}
							synctest.Wait()
							for handle == nil {
								if handle, err = w.engine.Start(t.Context(), params); err != nil &&
									!errors.Is(err, engine.ErrInDoubt) && !errors.Is(err, journaltest.ErrInjected) {
									t.Fatal(err)
								}
							}
						} else if err != nil {
							t.Fatal(err)
						}
						end, err := handle.Await(t.Context())
						if err != nil || end.State != want {
							t.Fatalf("got %v, %v; calls: %v", end, err, w.participant.seen())
						}
						counts := make(map[string]int)
						for _, call := range w.participant.seen() {
							counts[call]++
						}
						for call, n := range counts {
							if n > 1 {
								t.Errorf("%s was sent %d times", call, n)
							}
						}
						if len(counts) != map[bool]int{false: 3, true: 5}[refusal] {
							t.Errorf("calls: %v", w.participant.seen())
						}
					})
				})
			}
		}
	}
}

// TestFullDisk fails commits but not reads, as a full disk does, and then recovers. The saga continues from where it
// was, and the store isn't flooded with retries.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		full := &fullDisk{Store: w.store}
		w.store = full
		w.open()
		release := w.participant.stall("action 2")
		handle := w.start(3)
		<-w.participant.held
		full.full.Store(true)
		release()
		<-time.After(10 * time.Minute)
		if n := full.refused.Load(); n == 0 || n > 200 {
			t.Errorf("the full store was asked %d times in ten minutes", n)
		}
		full.full.Store(false)
		if end, err := handle.Await(t.Context()); err != nil || end.State != succeeded {
			t.Fatalf("got %v, %v", end, err)
		}
		if diff := cmp.Diff([]string{"action 1#1", "action 2#1", "action 3#1"}, w.participant.seen()); diff != "" {
			t.Error(diff)
		}
	})
}

// fullDisk is a store that can be read but not written while it is full.
type fullDisk struct {
	journal.Store

	full    atomic.Bool
	refused atomic.Int64
}

func (f *fullDisk) Append(ctx context.Context, group []*journal.Entry) error {
	if f.full.Load() {
		f.refused.Add(1)
		return journal.ErrFull
	}
	return f.Store.Append(ctx, group)
}

// TestAwaitOfADoubtfulEnd fails the last commit of a saga after its write. Callers that await the saga receive its end.
func TestAwaitOfADoubtfulEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		store := journaltest.NewFaults(w.store)
		store.Inject(journaltest.Fault{Append: 2, When: journaltest.AfterCommit})
		w.store = store
		w.open()
		release := w.participant.stall("action 1")
		handle := w.start(1)
		<-w.participant.held
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		done := make(chan error, 1)
		go func() { _, err := w.engine.Await(ctx, handle.ID); done <- err }()
		synctest.Wait()
		release()
		if err := <-done; err != nil {
			row, _ := w.store.Get(t.Context(), handle.ID)
			t.Errorf("awaiting: %v; the store says %v", err, row.State)
		}
	})
}

// TestSleepBeginsInDoubt fails the commit of a sleep after its write. The timer is set.
func TestSleepBeginsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			if err := work(ctx, 1); err != nil {
				return nil, err
			}
			saga.Sleep(ctx, 5*time.Second)
			return &benchv1.RunDone{}, nil
		})
		w.stop()
		store := journaltest.NewFaults(w.store)
		store.Inject(journaltest.Fault{Append: 2, When: journaltest.AfterCommit})
		w.store = store
		w.open()
		began := time.Now()
		handle := w.start(1)
		w.await(handle.ID)
		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("a sleep of 5 s took %v", took)
		}
	})
}

// TestCompletionInDoubt fails the commit of a completion after its write. The command isn't sent again, and the saga
// leaves memory.
func TestCompletionInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		store := journaltest.NewFaults(w.store)
		store.Inject(journaltest.Fault{Append: 2, When: journaltest.AfterCommit})
		w.store = store
		w.open()
		w.participant.answer("action 1", pending(time.Minute))
		handle := w.start(1)
		synctest.Wait()
		err := w.engine.Complete(t.Context(),
			engine.Completion{Saga: handle.ID, Step: "1", Direction: engine.Action, Reply: []byte{}})
		if !errors.Is(err, engine.ErrInDoubt) {
			t.Fatal(err)
		}
		synctest.Wait()
		if row, _ := w.store.Get(t.Context(), handle.ID); row.State != succeeded {
			t.Fatal(row.State)
		}
		known, loaded := w.engine.Loaded()
		if known > 0 {
			t.Errorf("in memory after its end: %d, %d", known, loaded)
		}
		pass(time.Hour)
		synctest.Wait()
		if seen := w.participant.seen(); len(seen) != 1 {
			t.Errorf("calls: %v", seen)
		}
	})
}
