package engine_test

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestHorizonOfChildren starts a child of another orchestrator's saga. It holds the horizon back, although it has
// succeeded, until its parent is over.
func TestHorizonOfChildren(t *testing.T) {
	const day = 24 * time.Hour
	for _, test := range []struct {
		name  string
		scope string
		start bool                                 // the parent's start is known
		heard func(start time.Time) time.Time      // the horizon that the parent's orchestrator tells; nil: none
		want  func(began, now time.Time) time.Time // the horizon
	}{
		{"its parent may not be over", "p/0", true, nil, func(began, _ time.Time) time.Time { return began }},
		{"its parent isn't over", "p/0", true, func(start time.Time) time.Time { return start },
			func(began, _ time.Time) time.Time { return began }},
		{"its parent is over", "p/0", true, func(start time.Time) time.Time { return start.Add(time.Second) },
			func(_, now time.Time) time.Time { return now.Add(-time.Hour) }},
		{"its parent's start isn't known", "p/0", false,
			func(start time.Time) time.Time { return start.Add(time.Second) },
			func(began, _ time.Time) time.Time { return began }},
		{"its parent's orchestrator is of an earlier version", "", false, nil,
			func(began, _ time.Time) time.Time { return began }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				began := time.Now()
				hear := func(horizon time.Time) {
					told := journal.HeardScope{Scope: "p/0", Epoch: 1, Horizon: horizon}
					if _, err := w.store.Hear(t.Context(), told); err != nil {
						t.Fatal(err)
					}
				}
				hear(time.Time{})
				parent := &treatyv1.Parent{
					CommandId: wire.StepName("parent", "1"), Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
					Scope: test.scope,
				}
				if test.start {
					parent.SagaStart = timestamppb.New(began)
				}
				id := engine.ChildID(definition, parent.GetCommandId())
				if _, err := w.engine.Start(t.Context(), engine.StartParams{
					Definition: definition, SagaID: id, Request: request(t, 1), Parent: parent,
				}); err != nil {
					t.Fatal(err)
				}
				if w.await(id) != succeeded {
					t.Fatal("the child hasn't succeeded")
				}
				pass(day)
				if test.heard != nil {
					hear(test.heard(began))
				}
				want := test.want(began, time.Now()).UTC().Truncate(time.Microsecond)
				if got := w.engine.Horizon(); !got.Equal(want) {
					t.Errorf("the horizon is %v, want %v", got, want)
				}
			})
		})
	}
}

// TestHorizonAfterStop asks for the horizon while the engine stops, as connections do that are just being made. Nothing
// has failed then, so that the log has no warning.
func TestHorizonAfterStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		var log bytes.Buffer
		w.logger = slog.New(slog.NewTextHandler(&log, nil))
		w.open()
		w.stop()
		if got := w.engine.Horizon(); !got.IsZero() || log.Len() > 0 {
			t.Errorf("the horizon is %v, want none; the log:\n%s", got, &log)
		}
	})
}
