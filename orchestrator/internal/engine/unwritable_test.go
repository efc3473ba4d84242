package engine_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
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

// TestTextThatIsNotUTF8 runs code that returns text that isn't UTF-8. It isn't written to the journal, and the saga
// continues or is suspended with the reason.
func TestTextThatIsNotUTF8(t *testing.T) {
	for _, what := range []string{"error", "panic", "await"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
					if err := work(ctx, 1); err != nil {
						return nil, err
					}
					switch what {
					case "error":
						return nil, errors.New("bad \xff")
					case "panic":
						panic("bad \xff")
					}
					_, err := identityv1saga.AwaitApplicantVerified(ctx, "bad \xff", saga.Within(time.Minute))
					return &benchv1.RunDone{}, err
				})
				handle := w.start(1)
				pass(time.Hour)
				synctest.Wait()
				got := w.get(handle.ID)
				known, _ := w.engine.Loaded()
				if s := got.GetState(); s != suspended && s != compensated && s != succeeded {
					t.Errorf("an hour later: %v, in memory %d, steps %v, calls %v", s, known,
						got.GetSteps()[0].GetState(), w.participant.seen())
				}
			})
		})
	}
}

// TestFullStoreIsLoggedNowAndThen refuses many starts, since the store is full. The log says so once, and again later
// with how many lines it has left out.
func TestFullStoreIsLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer // written by one goroutine at a time: starts follow each other
		w := newFixture(t)
		w.stop()
		w.logger = slog.New(slog.NewTextHandler(&log, nil))
		w.store = &hooked{
			Store: w.store, onAppend: func([]*journal.Entry) error { return journal.ErrFull },
			onRaise: func() error { return journal.ErrFull },
		}
		w.open()
		refuse := func(n int) {
			for range n {
				params := engine.StartParams{Definition: definition, Request: request(t, 1)}
				_, err := w.engine.Start(t.Context(), params)
				if !errors.Is(err, journal.ErrFull) {
					t.Fatalf("got %v", err)
				}
				synctest.Wait()
			}
		}
		refuse(100)
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Fatalf("%d lines, want 1:\n%s", n, log.String())
		}
		pass(10 * time.Second)
		refuse(1)
		if n := strings.Count(log.String(), "level=ERROR"); n != 2 || !strings.Contains(log.String(), "left_out=99") {
			t.Errorf("%d lines, want 2, the last one with left_out=99:\n%s", n, log.String())
		}
	})
}

// TestTellsWhenTheStoreIsFull fills the store and frees space again. Nobody starts a saga then, since health checks
// keep them away.
func TestTellsWhenTheStoreIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var isFull atomic.Bool
		fail := func() error {
			if isFull.Load() {
				return journal.ErrFull
			}
			return nil
		}
		var told []error
		w := newFixture(t)
		w.stop()
		w.writable = func(cause error) { told = append(told, cause) }
		w.store = &hooked{
			Store: w.store, onAppend: func([]*journal.Entry) error { return fail() }, onRaise: fail,
		}
		w.open()
		for range 2 {
			if w.await(w.start(1).ID) != succeeded || len(told) > 0 {
				t.Fatalf("with space, it tells %v", told)
			}
			isFull.Store(true)
			for range 3 {
				params := engine.StartParams{Definition: definition, Request: request(t, 1)}
				if _, err := w.engine.Start(t.Context(), params); !errors.Is(err, journal.ErrFull) {
					t.Fatalf("got %v", err)
				}
				pass(time.Minute)
				synctest.Wait()
				if len(told) != 1 || !errors.Is(told[0], journal.ErrFull) {
					t.Fatalf("without space, it tells %v", told)
				}
			}
			isFull.Store(false)
			pass(time.Second)
			synctest.Wait()
			if len(told) != 2 || told[1] != nil {
				t.Fatalf("with space again, it tells %v", told)
			}
			told = nil
		}
	})
}

// TestTurnThatIsTooLong suspends a saga whose turn no store accepts. It doesn't affect the turns of the same group.
func TestTurnThatIsTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const long = 99
		w := language(t, func(ctx saga.Context, in *benchv1.RunRequest) (*benchv1.RunDone, error) {
			if err := work(ctx, 1); err != nil {
				return nil, err
			}
			if in.GetSteps() == long {
				return nil, errors.New(strings.Repeat("x", journal.MaxTurnBytes+1))
			}
			return &benchv1.RunDone{}, nil
		})
		w.stop()
		var busy atomic.Bool
		gate := make(chan struct{})
		w.store = &hooked{Store: w.store, onAppend: func([]*journal.Entry) error {
			if busy.Swap(false) {
				<-gate
			}
			return nil
		}}
		w.open()
		release := w.participant.stall("action 1")
		tooLong := w.start(long)
		<-w.participant.held
		busy.Store(true)
		var starts sync.WaitGroup
		start := func() {
			if _, err := w.engine.Start(t.Context(),
				engine.StartParams{Definition: definition, Request: request(t, 1)}); err != nil {
				t.Errorf("another saga's start: %v", err)
			}
		}
		starts.Go(start) // the store is busy with it
		synctest.Wait()
		release() // now the long turn and another start wait for the store, together
		starts.Go(start)
		synctest.Wait()
		close(gate)
		starts.Wait()
		pass(time.Hour)
		synctest.Wait()
		if got := w.get(tooLong.ID); got.GetState() != suspended ||
			!strings.Contains(got.GetSuspension().GetMessage(), "the turn can't be stored") {
			t.Errorf("an hour later it is %v: %q", got.GetState(), got.GetSuspension().GetMessage())
		}
		if known, _ := w.engine.Loaded(); known != 0 {
			t.Errorf("%d sagas are in memory", known)
		}
		if err := w.engine.Cancel(t.Context(), tooLong.ID, byAnn); err != nil {
			t.Errorf("cancelling it: %v", err)
		}
		if got := w.await(tooLong.ID); got != compensated {
			t.Errorf("cancelled, it is %v", got)
		}
	})
}
