package engine_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// TestSettled lists sagas that have ended since a time, in the order of their ends and across pages, and no saga that
// is open.
func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		early := w.start(1)
		w.await(early.ID)
		<-time.After(time.Minute)
		since := time.Now()
		var want []string
		for range 300 { // more than a page
			saga := w.start(1)
			w.await(saga.ID)
			want = append(want, saga.ID)
			<-time.After(time.Millisecond)
		}
		w.participant.answer("action 1", engine.Answer{
			Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Pending: time.Hour, Failure: &treatyv1.Failure{},
		})
		w.start(1)
		synctest.Wait()
		var got []string
		err := w.engine.Settled(t.Context(), since, func(saga *machine.Saga) error {
			got = append(got, saga.ID)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %d sagas, %v; want the %d that have ended since", len(got), err, len(want))
		}
		enough := errors.New("enough")
		err = w.engine.Settled(t.Context(), since, func(*machine.Saga) error { return enough })
		if !errors.Is(err, enough) {
			t.Errorf("got %v, want the error of the function", err)
		}
	})
}
