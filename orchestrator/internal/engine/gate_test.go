package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// marking is a store that notes what MarkReplaced stores.
type marking struct {
	journal.Store

	mu     sync.Mutex
	fails  int // how many of the next calls fail
	stored []string
}

func (m *marking) MarkReplaced(ctx context.Context, cause string, epoch uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fails > 0 {
		m.fails--
		return errors.New("not now")
	}
	m.stored = append(m.stored, fmt.Sprintf("%s, %d", cause, epoch))
	return m.Store.MarkReplaced(ctx, cause, epoch)
}

// last returns what was stored last.
func (m *marking) last() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.stored) == 0 {
		return ""
	}
	return m.stored[len(m.stored)-1]
}

// TestReplacedStoresHighestEpoch hears of another store several times. The first cause is stored, and the highest
// epoch, above which a restored store begins.
func TestReplacedStoresHighestEpoch(t *testing.T) {
	for _, test := range []struct {
		name  string
		fails int
		heard []uint64 // a pause is 1<<63
		want  string
	}{
		{"the first call knows no epoch", 0, []uint64{0, 7}, "cause 0, 7"},
		{"a later one", 0, []uint64{7, 9, 8}, "cause 0, 9"},
		{"a later one, after the first was stored", 0, []uint64{7, 1 << 63, 9, 0}, "cause 0, 9"},
		{"the store fails at first", 2, []uint64{0, 7, 9}, "cause 0, 9"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				w.stop()
				store := &marking{Store: w.store, fails: test.fails}
				w.store = store
				w.open()
				for i, epoch := range test.heard {
					if epoch == 1<<63 {
						pass(time.Minute)
						continue
					}
					w.engine.Replaced(fmt.Sprint("cause ", i), epoch)
				}
				pass(time.Minute)
				if got := store.last(); got != test.want {
					t.Errorf("stored %q, want %q", got, test.want)
				}
				// The next process hears of a later epoch still.
				w.stop()
				store.Store = store.Store.(*journaltest.Memory).Reopen()
				w.open()
				w.engine.Replaced("another cause", 100)
				pass(time.Minute)
				if got := store.last(); got != "another cause, 100" {
					t.Errorf("after a restart: stored %q", got)
				}
			})
		})
	}
}

// TestReplacedHeardByClosing asks what became of commands, and hears of another store.
func TestReplacedHeardByClosing(t *testing.T) {
	replaced := engine.Closed{Halt: engine.HaltReplaced, LaterEpoch: 9, Failure: &treatyv1.Failure{Message: "stale"}}
	for _, test := range []struct {
		name   string
		closes []engine.Closed // before the decision of a person
		decide bool
	}{
		{"the orchestrator asks", []engine.Closed{replaced}, false},
		{"a person's decision asks", nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, workThenPivot)
				w.stop()
				store := &marking{Store: w.store}
				w.store = store
				w.open()
				w.participant.answer("action 2", unknown, refusedOnce)
				w.participant.closes["2"] = test.closes
				handle := w.start(1)
				pass(time.Hour)
				if test.decide {
					w.participant.mu.Lock()
					w.participant.closes["2"] = []engine.Closed{replaced}
					w.participant.mu.Unlock()
					if err := w.engine.Resume(t.Context(), handle.ID, engine.ResumeParams{
						Action: machine.MarkRefused, Decision: &treatyv1.Decision{Actor: "ann", Reason: "why"},
					}); !errors.Is(err, engine.ErrReplaced) {
						t.Errorf("the decision: got %v", err)
					}
				}
				pass(time.Minute)
				if err := w.engine.Condition(); !errors.Is(err, engine.ErrReplaced) {
					t.Errorf("the engine's condition is %v", err)
				}
				if got := store.last(); !strings.HasSuffix(got, ", 9") {
					t.Errorf("stored %q", got)
				}
			})
		})
	}
}

// nextView waits for a change, for an hour at most.
func nextView(t *testing.T, watch *engine.SagaWatch) *treatyv1.Saga {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	view, err := watch.Next(ctx)
	if err != nil {
		t.Fatalf("there is no change: %v", err)
	}
	return view.Saga
}

// TestConditionIsWatched watches a saga while its store is replaced.
func TestConditionIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.delay = 4 * time.Second
		w.participant.answer("action 1", unknown)
		handle := w.start(1)
		pass(time.Second)
		if next := w.get(handle.ID).GetSteps()[0].GetAttempts().GetNextTime(); next == nil {
			t.Error("the command isn't sent again")
		}
		watch := w.engine.Watch(handle.ID)
		defer watch.Close()
		if next := nextView(t, watch).GetSteps()[0].GetAttempts().GetNextTime(); next == nil {
			t.Error("who watches isn't told when the command is sent again")
		}
		w.engine.Replaced("another store", 7)
		attempts := nextView(t, watch).GetSteps()[0].GetAttempts()
		if attempts.GetCount() != 1 || attempts.GetNextTime() != nil {
			t.Errorf("the attempts are %v", attempts)
		}
	})
}

// TestAttemptOfReplacedStore shows an attempt that was answered that the store was replaced. It says nothing about the
// command, so it isn't a conflict.
func TestAttemptOfReplacedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		stale := failed(treatyv1.Outcome_OUTCOME_CONFLICT, 10)
		stale.Halt = engine.HaltReplaced
		w.participant.answer("action 1", stale)
		handle := w.start(1)
		pass(time.Second)
		got := w.get(handle.ID).GetSteps()[0].GetAttempts()
		if got.GetCount() != 1 || got.GetLastOutcome() != "" || got.GetLastFailure() == nil ||
			got.GetNextTime() != nil {
			t.Errorf("the attempts are %v", got)
		}
	})
}

// TestRestoringNamesParticipants names the participants that a restored store waits for.
func TestRestoringNamesParticipants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		handle := w.start(1)
		w.await(handle.ID)
		backup := w.store.(*journaltest.Memory).Copy()
		w.stop()
		k := w.restore(backup, journal.Restored{BackupTime: time.Now(), RestoreTime: time.Now()})
		k.states[0].Described, k.states[0].Problem = false, "it is down"
		w.open()
		pass(time.Second)
		watch := w.engine.Watch(handle.ID)
		defer watch.Close()
		nextView(t, watch)
		seen := []string{fmt.Sprint(w.engine.Condition())}
		note := func() {
			nextView(t, watch)
			seen = append(seen, fmt.Sprint(w.engine.Condition()))
		}
		k.mu.Lock()
		k.states[0].Described, k.listErr = true, errors.New("not now")
		k.mu.Unlock()
		note()
		k.mu.Lock()
		k.listErr = nil
		k.mu.Unlock()
		note()
		want := []string{
			engine.ErrRestoring.Error() + ": bench.v1.WorkService it is down", engine.ErrRestoring.Error(), "<nil>",
		}
		if diff := cmp.Diff(want, seen); diff != "" {
			t.Errorf("conditions (-want +got):\n%s", diff)
		}
	})
}
