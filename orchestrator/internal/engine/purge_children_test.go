package engine_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// startChild starts a saga with one step as the child of a step of a saga, and waits until it has succeeded.
func (w *fixture) startChild(parent *treatyv1.Parent) (id string) {
	w.t.Helper()
	id = engine.ChildID(definition, parent.GetCommandId())
	if _, err := w.engine.Start(w.t.Context(), engine.StartParams{
		Definition: definition, SagaID: id, Request: request(w.t, 1), Parent: parent,
	}); err != nil {
		w.t.Fatal(err)
	}
	if w.await(id) != succeeded {
		w.t.Fatal("the child hasn't succeeded")
	}
	return id
}

// exists returns whether the store has a saga.
func (w *fixture) exists(id string) bool {
	w.t.Helper()
	_, err := w.store.Get(w.t.Context(), id)
	if err != nil && !errors.Is(err, journal.ErrNotFound) {
		w.t.Fatal(err)
	}
	return err == nil
}

// TestPurgeChildrenWithParents starts children of a saga of the same orchestrator. One that it may compensate is purged
// with it, and one that it may not by its own retention.
func TestPurgeChildrenWithParents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		const retention = time.Hour
		w.retention = map[string]time.Duration{definition: retention}
		w.open()
		release := w.participant.stall("action 2")
		parent := w.start(2)
		<-w.participant.held
		compensatable := w.startChild(&treatyv1.Parent{
			CommandId: wire.StepName(parent.ID, "8"), Local: true,
			Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
		})
		grandchild := w.startChild(&treatyv1.Parent{
			CommandId: wire.StepName(compensatable, "1"), Local: true,
			Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
		})
		pivot := w.startChild(&treatyv1.Parent{
			CommandId: wire.StepName(parent.ID, "9"), Local: true, Kind: treatyv1.CommandKind_COMMAND_KIND_PIVOT,
		})
		pass(3 * retention)
		if !w.exists(compensatable) || !w.exists(grandchild) {
			t.Error("a child was purged while its parent could compensate it")
		}
		if w.exists(pivot) {
			t.Error("a child that nobody can compensate wasn't purged after its retention")
		}
		release()
		w.await(parent.ID)
		pass(retention - 2*time.Minute)
		if !w.exists(parent.ID) || !w.exists(compensatable) {
			t.Error("the parent or its child was purged before the parent's retention was over")
		}
		pass(4 * time.Minute)
		for name, id := range map[string]string{
			"parent": parent.ID, "child": compensatable, "grandchild": grandchild,
		} {
			if w.exists(id) {
				t.Errorf("the %s is kept after the parent's retention", name)
			}
		}
		if purged, err := w.store.Purged(t.Context(), compensatable); err != nil || !purged {
			t.Errorf("the id of the child is kept: %v, %v", purged, err)
		}
	})
}

// TestPurgeChildrenOfOtherOrchestrators starts a child that a saga of another orchestrator may compensate. It is purged
// after a retention of its own, but not before that saga is over, as far as that is known.
func TestPurgeChildrenOfOtherOrchestrators(t *testing.T) {
	const (
		retention, ordinary = 48 * time.Hour, time.Hour
		day                 = 24 * time.Hour
	)
	for _, test := range []struct {
		name      string
		retention time.Duration
		start     bool          // the parent's start is known
		over      time.Duration // when a horizon after the parent's start is heard
		kept      time.Duration
		gone      time.Duration // 0: never
	}{
		{"its parent is over", retention, true, time.Hour, retention, retention + 2*time.Minute},
		{"its parent takes long", retention, true, 5 * day, 5 * day, 5*day + 2*time.Minute},
		{"its parent's start isn't known", retention, false, time.Hour, retention, retention + 2*time.Minute},
		{"forever", 0, true, time.Hour, 10 * day, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				w.stop()
				w.retention = map[string]time.Duration{definition: ordinary}
				w.childRetention = test.retention
				w.open()
				began := time.Now()
				hear := func(horizon time.Time) {
					told := journal.HeardScope{Scope: "p/0", Epoch: 1, Horizon: horizon}
					if _, err := w.store.Hear(t.Context(), told); err != nil {
						t.Fatal(err)
					}
				}
				hear(began)
				parent := &treatyv1.Parent{
					CommandId: wire.StepName("parent", "1"), Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
					Scope: "p/0",
				}
				if test.start {
					parent.SagaStart = timestamppb.New(began)
				}
				id := w.startChild(parent)
				pass(test.over - time.Since(began))
				hear(began.Add(time.Second))
				if left := test.kept - 2*time.Minute - time.Since(began); left > 0 {
					pass(left)
				}
				if !w.exists(id) {
					t.Errorf("the child was purged after less than %v", time.Since(began))
				}
				if test.gone == 0 {
					return
				}
				if pass(test.gone - time.Since(began)); w.exists(id) {
					t.Errorf("the child is kept after %v", time.Since(began))
				}
			})
		})
	}
}

// TestPurgeByHand purges sagas that have ended whatever their retention, and no others.
func TestPurgeByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		why := &treatyv1.Decision{Actor: "ada", Reason: "ticket 4711"}
		release := w.participant.stall("action 2")
		open := w.start(2)
		<-w.participant.held
		child := w.startChild(&treatyv1.Parent{
			CommandId: wire.StepName(open.ID, "8"), Local: true,
			Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
		})
		if _, err := w.store.Hear(t.Context(), journal.HeardScope{Scope: "p/0", Epoch: 1}); err != nil {
			t.Fatal(err)
		}
		remote := w.startChild(&treatyv1.Parent{
			CommandId: wire.StepName("parent", "1"), Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
			Scope: "p/0", SagaStart: timestamppb.Now(),
		})
		for what, id := range map[string]string{
			"one that runs": open.ID, "a child": child, "a child of another orchestrator": remote,
		} {
			if n, err := w.engine.Purge(t.Context(), id, why); !errors.Is(err, engine.ErrKept) || !w.exists(id) {
				t.Errorf("purging %s: %d, %v", what, n, err)
			}
		}
		release()
		w.await(open.ID)
		if n, err := w.engine.Purge(t.Context(), open.ID, why); err != nil || n != 2 || w.exists(child) {
			t.Errorf("purging a saga with its child: %d, %v", n, err)
		}
		if _, err := w.engine.Purge(t.Context(), open.ID, why); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("purging it again: %v", err)
		}
		params := engine.StartParams{Definition: definition, Request: request(t, 1), RequestID: "order-7"}
		handle, err := w.engine.Start(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		w.await(handle.ID)
		if n, err := w.engine.Purge(t.Context(), handle.ID, why); err != nil || n != 1 {
			t.Errorf("purging a saga with a request id: %d, %v", n, err)
		}
		if _, err := w.engine.Start(t.Context(), params); !errors.Is(err, engine.ErrPurged) {
			t.Errorf("starting it again: %v", err)
		}
	})
}
