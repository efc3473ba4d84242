package engine_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// TestRepeatedResume resumes a saga, and sends the decision again, as after a lost answer. The saga has been suspended
// anew in the meantime, and stays so.
func TestRepeatedResume(t *testing.T) {
	for _, action := range []machine.ResumeAction{machine.Retry, machine.RetryEdited, machine.MarkDone} {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, twoSteps)
			w.participant.answer("action 2", refused)
			w.participant.answer("compensation 1", refused, refused)
			handle := w.start(1)
			synctest.Wait()
			resume := engine.ResumeParams{
				Action: machine.Retry, Etag: w.get(handle.ID).GetEtag(), Decision: &treatyv1.Decision{Actor: "ann"},
			}
			if err := w.engine.Resume(t.Context(), handle.ID, resume); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			before := len(w.participant.seen())
			resume.Action, resume.Payload = action, []byte{1}
			if err := w.engine.Resume(t.Context(), handle.ID, resume); !errors.Is(err, machine.ErrChanged) {
				t.Errorf("repeated: %v", err)
			}
			synctest.Wait()
			if got := w.get(handle.ID); got.GetState() != suspended || len(w.participant.seen()) != before {
				t.Errorf("it is %v, calls %v", got.GetState(), w.participant.seen())
			}
			resume.Action, resume.Etag = machine.Retry, w.get(handle.ID).GetEtag()
			if err := w.engine.Resume(t.Context(), handle.ID, resume); err != nil {
				t.Fatal(err)
			}
			if w.await(handle.ID) != compensated {
				t.Error("it wasn't compensated")
			}
		})
	}
}

// TestStaleDecisionAsksNobody decides about a pivot as it was before. The participant isn't asked to close it.
func TestStaleDecisionAsksNobody(t *testing.T) {
	decision := &treatyv1.Decision{Actor: "ann", Reason: "why not"}
	for name, decide := range map[string]func(w *fixture, id string) error{
		"mark refused": func(w *fixture, id string) error {
			return w.engine.Resume(w.t.Context(), id, engine.ResumeParams{
				Action: machine.MarkRefused, Decision: decision, Etag: "before",
			})
		},
		"mark done": func(w *fixture, id string) error {
			return w.engine.Resume(w.t.Context(), id, engine.ResumeParams{
				Action: machine.MarkDone, Decision: decision, Etag: "before", Payload: []byte{},
			})
		},
		"complete": func(w *fixture, id string) error {
			return w.engine.Complete(w.t.Context(), engine.Completion{
				Saga: id, Step: "2", Direction: engine.Action, Refusal: &treatyv1.Failure{Code: 9},
				Decision: decision, Etag: "before",
			})
		},
		"cancel": func(w *fixture, id string) error {
			return w.engine.Cancel(w.t.Context(), id, engine.CancelParams{Decision: decision, Etag: "before"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, workThenPivot)
				w.participant.answer("action 2", unknown, refusedOnce)
				handle := w.start(1)
				pass(time.Hour)
				asked := len(w.participant.seen())
				if err := decide(w, handle.ID); !errors.Is(err, machine.ErrChanged) {
					t.Errorf("got %v", err)
				}
				if seen := w.participant.seen(); len(seen) != asked {
					t.Errorf("calls %v", seen)
				}
			})
		})
	}
}

// TestEtagsInLists compares the etag of a saga with that of its row, which lists show, after each change of its state,
// and after a restart. Each state has its own.
func TestEtagsInLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, twoSteps)
		seen := make(map[string]bool)
		check := func(id, when string) {
			t.Helper()
			synctest.Wait()
			row, err := w.store.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			etag := w.get(id).GetEtag()
			if listed := machine.Etag(row.Revision); etag == "" || listed != etag {
				t.Errorf("%s, the etag is %q, and in lists %q", when, etag, listed)
			}
			if seen[etag] {
				t.Errorf("%s, the etag %q is one from before", when, etag)
			}
			seen[etag] = true
		}
		w.participant.answer("action 2", refused)
		w.participant.answer("compensation 1", refused, refused)
		release := w.participant.stall("action 1")
		handle := w.start(1)
		check(handle.ID, "at first")
		release()
		check(handle.ID, "suspended")
		w.stop()
		w.open()
		synctest.Wait()
		if etag := w.get(handle.ID).GetEtag(); !seen[etag] {
			t.Errorf("after a restart, the etag is %q", etag)
		}
		resume := engine.ResumeParams{Action: machine.Retry, Decision: &treatyv1.Decision{Actor: "ann"}}
		if err := w.engine.Resume(t.Context(), handle.ID, resume); err != nil {
			t.Fatal(err)
		}
		check(handle.ID, "suspended again")
		if err := w.engine.Resume(t.Context(), handle.ID, resume); err != nil {
			t.Fatal(err)
		}
		check(handle.ID, "compensated")
		other := w.start(1)
		check(other.ID, "the other saga")
	})
}

// TestDecisionsOnAFullStore decides about sagas whose turns can't be stored, since the store is full. Each decision is
// answered at once, and none takes effect later, when there is space again.
func TestDecisionsOnAFullStore(t *testing.T) {
	decision := &treatyv1.Decision{Actor: "ann", Reason: "why not"}
	decisions := map[string]func(w *fixture, id string) error{
		"cancel": func(w *fixture, id string) error {
			return w.engine.Cancel(w.t.Context(), id, engine.CancelParams{Decision: decision})
		},
		"resume": func(w *fixture, id string) error {
			return w.engine.Resume(w.t.Context(), id, engine.ResumeParams{Action: machine.Retry, Decision: decision})
		},
		"complete": func(w *fixture, id string) error {
			return w.engine.Complete(w.t.Context(), engine.Completion{
				Saga: id, Step: "2", Direction: engine.Action, Refusal: &treatyv1.Failure{Code: 9}, Settled: true,
			})
		},
	}
	for _, when := range []string{"while it is retried", "before it is known"} {
		for name, decide := range decisions {
			t.Run(name+" "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newFixture(t)
					w.stop()
					var full atomic.Bool
					gate, blocked := make(chan struct{}), make(chan struct{}, 100)
					h := &hooked{Store: w.store}
					h.onAppend = func([]*journal.Entry) error {
						if !full.Load() {
							return nil
						}
						blocked <- struct{}{}
						<-gate
						return journal.ErrFull
					}
					w.store = h
					w.open()
					release := w.participant.stall("action 1")
					handle := w.start(3)
					<-w.participant.held
					full.Store(true)
					release()
					<-blocked // the turn with the reply of step 1 is about to fail
					answer := make(chan error, 1)
					if when == "while it is retried" {
						close(gate)
						pass(10 * time.Second)
					}
					asked := time.Now()
					go func() { answer <- decide(w, handle.ID) }()
					synctest.Wait()
					if when == "before it is known" {
						close(gate)
					}
					if err := <-answer; !errors.Is(err, journal.ErrFull) || time.Since(asked) > 0 {
						t.Errorf("after %v: %v", time.Since(asked), err)
					}
					full.Store(false)
					pass(time.Minute)
					if got := w.get(handle.ID); got.GetState() != succeeded {
						t.Errorf("with space again, it is %v", got.GetState())
					}
				})
			})
		}
	}
}
