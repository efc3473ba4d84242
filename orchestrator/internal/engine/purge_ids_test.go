package engine_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestForgetsSagaIDs starts a saga again after it was purged. It is a second saga once the retention of ids is over and
// every participant was told a horizon after its end.
func TestForgetsSagaIDs(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		name      string
		retention time.Duration
		told      map[string]time.Duration // after the saga's end, by participant
		forgotten bool
	}{
		{"forever", 0, map[string]time.Duration{"a.A": day, "b.B": day}, false},
		{"the retention isn't over", 30 * day, map[string]time.Duration{"a.A": day, "b.B": day}, false},
		{"all were told", 2 * day, map[string]time.Duration{"a.A": day, "b.B": day}, true},
		{"one was told an earlier horizon", 2 * day, map[string]time.Duration{"a.A": day, "b.B": -day}, false},
		{"one was told nothing", 2 * day, map[string]time.Duration{"a.A": day}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				w.stop()
				w.retention, w.idRetention = map[string]time.Duration{definition: time.Hour}, test.retention
				w.participants = &keeper{participant: w.participant, states: []engine.ParticipantState{
					{Name: "a.A"}, {Name: "b.B"},
				}}
				w.open()
				params := engine.StartParams{Definition: definition, Request: request(t, 1), RequestID: "order-7"}
				handle, err := w.engine.Start(t.Context(), params)
				if err != nil {
					t.Fatal(err)
				}
				w.await(handle.ID)
				ended := time.Now()
				pass(2 * time.Hour)
				if _, err := w.engine.Start(t.Context(), params); !errors.Is(err, engine.ErrPurged) {
					t.Fatalf("after the saga was purged: got %v", err)
				}
				for service, after := range test.told {
					if err := w.store.PutParticipant(t.Context(), journal.Participant{
						Service: service, Horizon: ended.Add(after),
					}); err != nil {
						t.Fatal(err)
					}
				}
				pass(3 * day)
				again, err := w.engine.Start(t.Context(), params)
				if test.forgotten && (err != nil || again.Existing) ||
					!test.forgotten && !errors.Is(err, engine.ErrPurged) {
					t.Errorf("started again: got %+v, %v", again, err)
				}
			})
		})
	}
}
