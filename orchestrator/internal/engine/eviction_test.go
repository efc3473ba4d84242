package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// TestWaitingSagasAreEvicted checks what stays in memory of a saga that waits, is suspended, or has ended.
func TestWaitingSagasAreEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		expect := func(when string, known, loaded int) {
			t.Helper()
			synctest.Wait()
			if k, l := w.engine.Loaded(); k != known || l != loaded {
				t.Errorf("%s, %d sagas are known and %d loaded; want %d and %d", when, k, l, known, loaded)
			}
		}
		w.participant.delay = 100 * time.Millisecond
		w.participant.answer("action 1", unknown)
		w.start(2)
		expect("in a short wait", 1, 1)
		<-time.After(time.Second)
		expect("at the end", 0, 0)

		w.participant.delay = time.Minute
		w.participant.answer("action 2", unknown)
		handle := w.start(2)
		expect("in a long wait", 1, 0)
		<-time.After(2 * time.Minute)
		if end, err := handle.Await(t.Context()); err != nil || end.State != succeeded {
			t.Errorf("got %v, %v", end, err)
		}

		w.participant.down()
		handle = w.start(2)
		expect("while its participant is down", 1, 0)
		w.participant.answer("action 2", refused)
		w.participant.answer("compensation 1", refused)
		w.participant.up()
		expect("while it is suspended", 0, 0)
		if got := w.get(handle.ID); got.GetState() != suspended {
			t.Fatalf("got %v", got.GetState())
		}
		resumed := make(chan engine.SagaEnd, 1)
		go func() {
			end, err := handle.Await(t.Context())
			if err != nil {
				t.Error(err)
			}
			resumed <- end
		}()
		synctest.Wait()
		if err := w.engine.Resume(t.Context(), handle.ID,
			engine.ResumeParams{Action: machine.MarkDone,
				Decision: &treatyv1.Decision{Actor: "ann", Reason: "by hand"}}); err != nil {
			t.Fatal(err)
		}
		if end := <-resumed; end.State != compensated {
			t.Errorf("a caller that waited since before the suspension got %v", end)
		}
		expect("at the end", 0, 0)
	})
}
