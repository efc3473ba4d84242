package engine_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
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
		if err := w.engine.Cancel(t.Context(), tooLong.ID, &treatyv1.Decision{Actor: "ann"}); err != nil {
			t.Errorf("cancelling it: %v", err)
		}
		if got := w.await(tooLong.ID); got != compensated {
			t.Errorf("cancelled, it is %v", got)
		}
	})
}
