package engine_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestCompletedBeforeItIsSentAgain completes a command while its request is read for the next attempt. It isn't sent
// again.
func TestCompletedBeforeItIsSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		var block atomic.Bool
		gate := make(chan struct{})
		h := &hooked{Store: w.store}
		h.onLoad = func() {
			if block.Swap(false) {
				<-gate
			}
		}
		w.store = h
		w.open()
		w.participant.answer("action 1", pending(time.Minute))
		handle := w.start(1)
		synctest.Wait()
		block.Store(true)
		pass(time.Minute) // the wait for a completion ends, and the saga is read
		synctest.Wait()
		if err := w.engine.Complete(t.Context(),
			engine.Completion{Saga: handle.ID, Step: "1", Direction: engine.Action, Reply: []byte{}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if row, _ := w.store.Get(t.Context(), handle.ID); row.State != succeeded {
			t.Fatal(row.State)
		}
		close(gate)
		synctest.Wait()
		if seen := w.participant.seen(); len(seen) != 1 {
			t.Errorf("calls: %v", seen)
		}
	})
}

// TestChildUndoneForItsOwnReason makes a parent start to compensate while its child is already compensating because of
// its own failure. The child's end completes the parent's compensation.
func TestChildUndoneForItsOwnReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		long := pending(24 * time.Hour)
		w.participant.answer("action 1", long)
		w.participant.answer("compensation 1", long)
		parent := w.start(1)
		synctest.Wait()
		w.participant.answer("action 3", refused)
		release := w.participant.stall("compensation 2")
		params := engine.StartParams{
			Definition: definition, Request: request(t, 3), SagaID: "child",
			Parent: &treatyv1.Parent{CommandId: "sagas/" + parent.ID + "/steps/1",
				Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE, Local: true},
		}
		if _, err := w.engine.Start(t.Context(), params); err != nil {
			t.Fatal(err)
		}
		<-w.participant.held
		if err := w.engine.Cancel(t.Context(), parent.ID, byAnn); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if undone, err := w.engine.BeginCompensateChild(t.Context(), params); err != nil || undone {
			t.Fatal(undone, err)
		}
		release()
		w.await("child")
		pass(time.Hour)
		synctest.Wait()
		if got := w.get(parent.ID); got.GetState() != compensated {
			t.Errorf("the child ended an hour ago; its parent is %v; calls %v", got.GetState(), w.participant.seen())
		}
	})
}

// TestBothDecisionsAreKept has one person decide about an action, and another one about its compensation. The step
// names both.
func TestBothDecisionsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, twoSteps)
		w.participant.answer("action 1", pending(time.Hour))
		w.participant.answer("action 2", refused)
		w.participant.answer("compensation 1", pending(time.Hour))
		handle := w.start(1)
		ada := &treatyv1.Decision{Actor: "ada", Reason: "it was reserved"}
		bob := &treatyv1.Decision{Actor: "bob", Reason: "released by hand"}
		for _, completion := range []engine.Completion{
			{Direction: engine.Action, Decision: ada}, {Direction: engine.Compensation, Decision: bob},
		} {
			synctest.Wait()
			completion.Saga, completion.Step, completion.Reply = handle.ID, "1", []byte{}
			if err := w.engine.Complete(t.Context(), completion); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		step := w.get(handle.ID).GetSteps()[0]
		if !proto.Equal(step.GetDecision(), ada) || !proto.Equal(step.GetCompensationDecision(), bob) {
			t.Errorf("decided by %v, its compensation by %v", step.GetDecision(), step.GetCompensationDecision())
		}
	})
}

// TestCompletedByHand completes a compensation on its participant's behalf. The saga shows who has decided that.
func TestCompletedByHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, twoSteps)
		w.participant.answer("action 2", refused)
		w.participant.answer("compensation 1", pending(time.Hour))
		handle := w.start(1)
		synctest.Wait()
		decision := &treatyv1.Decision{Actor: "ada", Reason: "released by hand"}
		if err := w.engine.Complete(t.Context(), engine.Completion{
			Saga: handle.ID, Step: "1", Direction: engine.Compensation, Reply: []byte{}, Decision: decision,
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		step := w.get(handle.ID).GetSteps()[0]
		if step.GetState() != treatyv1.StepState_STEP_STATE_COMPENSATED ||
			!proto.Equal(step.GetCompensationDecision(), decision) || !proto.Equal(step.GetDecision(), decision) {
			t.Errorf("got %v", step)
		}
	})
}

// TestCompletingTakesAcceptance completes a pivot in its participant's place, and as the participant itself. A person
// needs force unless the participant is known to have accepted the command. The participant needs nothing.
func TestCompletingTakesAcceptance(t *testing.T) {
	decision := &treatyv1.Decision{Actor: "ada", Reason: "ticket 4711"}
	for _, test := range []struct {
		name     string
		accepted bool

		// bring brings the pivot, step 2, into the situation.
		bring func(w *fixture)
	}{
		{"attempt in flight", false, func(w *fixture) {
			release := w.participant.stall("action 2")
			w.t.Cleanup(release)
			w.start(1)
			<-w.participant.held
		}},
		{"no answer", false, func(w *fixture) {
			w.participant.answer("action 2", slices.Repeat([]engine.Answer{unknown}, 100)...)
			w.start(1)
		}},
		{"gave up", false, func(w *fixture) {
			w.participant.answer("action 2", unknown, refusedOnce)
			w.start(1)
			pass(time.Hour)
		}},
		{"accepted", true, func(w *fixture) {
			w.participant.answer("action 2", pending(time.Hour))
			w.start(1)
		}},
		{"accepted, then no answer", true, func(w *fixture) {
			w.participant.answer("action 2", pending(time.Second), unknown, unknown, unknown, unknown, unknown)
			w.start(1)
			pass(1100 * time.Millisecond)
		}},
		{"accepted, after a restart", true, func(w *fixture) {
			w.participant.answer("action 2", pending(time.Hour), pending(time.Hour))
			w.start(1)
			synctest.Wait()
			w.stop()
			w.open()
		}},
		{"accepted before a restart, no answer since", false, func(w *fixture) {
			w.participant.answer("action 2", pending(time.Hour))
			w.start(1)
			synctest.Wait()
			w.stop()
			release := w.participant.stall("action 2")
			w.t.Cleanup(release)
			w.open()
			<-w.participant.held
		}},
	} {
		for _, by := range []string{"a person", "a person with force", "the participant"} {
			t.Run(test.name+", by "+by, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := language(t, workThenPivot)
					test.bring(w)
					synctest.Wait()
					rows, err := w.store.List(t.Context(), journal.ListParams{Limit: 2})
					if err != nil || len(rows) != 1 {
						t.Fatal(rows, err)
					}
					completion := engine.Completion{
						Saga: rows[0].ID, Step: "2", Direction: engine.Action, Reply: []byte{}, Decision: decision,
					}
					switch by {
					case "a person with force":
						completion.Force = true
					case "the participant":
						completion.Decision = nil
					}
					err = w.engine.Complete(t.Context(), completion)
					if by == "a person" && !test.accepted {
						if !errors.Is(err, engine.ErrNotAccepted) {
							t.Errorf("got %v", err)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if w.await(completion.Saga) != succeeded {
						t.Error("it hasn't succeeded")
					}
					if err := w.engine.Complete(t.Context(), completion); err != nil {
						t.Errorf("the same completion again: %v", err)
					}
				})
			})
		}
	}
}

// TestCompletedBeforeAccepted completes a command before the answer arrives that says that it was accepted. The answer
// changes nothing.
func TestCompletedBeforeAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.answer("action 1", pending(time.Second))
		release := w.participant.stall("action 1")
		handle := w.start(1)
		<-w.participant.held
		if err := w.engine.Complete(t.Context(), engine.Completion{
			Saga: handle.ID, Step: "1", Direction: engine.Action, Reply: []byte{},
		}); err != nil {
			t.Fatal(err)
		}
		if w.await(handle.ID) != succeeded {
			t.Error("it hasn't succeeded")
		}
		release()
		pass(time.Minute)
		if seen := w.participant.seen(); len(seen) != 1 {
			t.Errorf("calls: %v", seen)
		}
	})
}
