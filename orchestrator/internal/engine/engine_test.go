package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

func TestRunsToTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		handle := w.start(3)
		end, err := handle.Await(t.Context())
		if err != nil || end.State != succeeded {
			t.Fatalf("got %v, %v", end, err)
		}
		if diff := cmp.Diff([]string{"action 1#1", "action 2#1", "action 3#1"}, w.participant.seen()); diff != "" {
			t.Error(diff)
		}
		stored, err := w.store.Load(t.Context(), handle.ID)
		if err != nil || len(stored.Turns) != 4 {
			t.Errorf("a saga of 3 steps costs %d turns (%v), want 4", len(stored.Turns), err)
		}
	})
}

func TestRefusalUndoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.answer("action 3", refused)
		handle := w.start(3)
		end, err := handle.Await(t.Context())
		if err != nil || end.State != compensated || end.Failure.GetMessage() != "answered by the fake" {
			t.Fatalf("got %v, %v", end, err)
		}
		want := []string{"action 1#1", "action 2#1", "action 3#1", "compensation 2#1", "compensation 1#1"}
		if diff := cmp.Diff(want, w.participant.seen()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRetriesUntilItIsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.answer("action 1", unknown, unknown, failed(treatyv1.Outcome_OUTCOME_CONFLICT, 10),
			failed(treatyv1.Outcome_OUTCOME_MISDEPLOYED, 12))
		handle := w.start(1)
		began := time.Now()
		if end, err := handle.Await(t.Context()); err != nil || end.State != succeeded {
			t.Fatalf("got %v, %v", end, err)
		}
		if took := time.Since(began); took != 400*time.Millisecond {
			t.Errorf("four waits of 100 ms took %v", took)
		}
		if saga := w.get(handle.ID); saga.GetSteps()[0].GetAttempts().GetCount() != 5 {
			t.Errorf("the journal has %v", saga.GetSteps()[0].GetAttempts())
		}
	})
}

// TestGivesUp fails an action until its retry policy is exhausted. An action that may have run is compensated; one that
// certainly didn't run isn't.
func TestGivesUp(t *testing.T) {
	for _, test := range []struct {
		name   string
		result engine.Answer
		undone bool
	}{
		{"unknown", unknown, true},
		{"conflict", failed(treatyv1.Outcome_OUTCOME_CONFLICT, 10), false},
		{"throttled", failed(treatyv1.Outcome_OUTCOME_THROTTLED, 8), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				w.participant.delay = time.Minute
				w.participant.answer("action 1", slices.Repeat([]engine.Answer{test.result}, 20)...)
				handle := w.start(1)
				if end, err := handle.Await(t.Context()); err != nil || end.State != compensated {
					t.Fatalf("got %v, %v", end, err)
				}
				seen := w.participant.seen()
				if undone := slices.Contains(seen, "compensation 1#1"); undone != test.undone {
					t.Errorf("undone: %v; calls: %v", undone, seen)
				}
				if len(seen) < 10 || len(seen) > 13 {
					t.Errorf("gave up after %d calls, ten minutes at one a minute", len(seen))
				}
			})
		})
	}
}

// TestOutageBurnsNoBudget keeps the participant down for longer than the command's retry policy allows.
func TestOutageBurnsNoBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.answer("action 1", unknown)
		w.participant.delay = time.Second
		handle := w.start(2)
		synctest.Wait()
		w.participant.down()
		<-time.After(time.Hour) // virtual time
		if saga := w.get(handle.ID); !saga.GetSteps()[0].GetAttempts().GetParked() {
			t.Fatalf("the step isn't parked: %v", saga.GetSteps()[0])
		}
		w.participant.answer("action 1", unknown)
		w.participant.up()
		if end, err := handle.Await(t.Context()); err != nil || end.State != succeeded {
			t.Fatalf("got %v, %v; calls: %v", end, err, w.participant.seen())
		}
	})
}

// TestEveryCrash stops the engine during each command of a saga in turn and opens the store again. The saga ends in the
// same way, and no recorded command is sent again.
func TestEveryCrash(t *testing.T) {
	for _, commands := range [][]string{
		{"action 1", "action 2", "action 3"},
		{"action 1", "action 2", "action 3", "compensation 2", "compensation 1"},
	} {
		for _, crash := range commands {
			t.Run(fmt.Sprintf("%d_%s", len(commands), crash), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newFixture(t)
					want := succeeded
					if len(commands) > 3 {
						w.participant.answer("action 3", refused)
						want = compensated
					}
					release := w.participant.stall(crash)
					handle := w.start(3)
					<-w.participant.held
					w.stop()
					release()
					w.open()
					if got := w.await(handle.ID); got != want {
						t.Fatalf("ended as %v", got)
					}
					var expected []string
					for _, command := range commands {
						expected = append(expected, command+"#1")
						if command == crash {
							expected = append(expected, command+"#1")
						}
					}
					if diff := cmp.Diff(expected, w.participant.seen()); diff != "" {
						t.Error(diff)
					}
				})
			})
		}
	}
}

func TestStartsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		params := engine.StartParams{Definition: definition, Request: request(t, 2), RequestID: "order-1"}
		var group sync.WaitGroup
		ids := make([]string, 20)
		for i := range ids {
			group.Go(func() {
				handle, err := w.engine.Start(t.Context(), params)
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = handle.ID
				if end, err := handle.Await(t.Context()); err != nil || end.State != succeeded {
					t.Errorf("got %v, %v", end, err)
				}
			})
		}
		group.Wait()
		if len(slices.Compact(ids)) != 1 || len(w.participant.seen()) != 2 {
			t.Errorf("got the sagas %v and the calls %v", slices.Compact(ids), w.participant.seen())
		}
		params.Request = request(t, 3)
		if _, err := w.engine.Start(t.Context(), params); !errors.Is(err, engine.ErrOtherRequest) {
			t.Errorf("another request under the same id: %v", err)
		}
		params.Definition = "bench.v1.WorkSagas/Nothing"
		if _, err := w.engine.Start(t.Context(), params); !errors.Is(err, engine.ErrNoDefinition) {
			t.Errorf("an unknown definition: %v", err)
		}
	})
}

func TestCancel(t *testing.T) {
	decision := &treatyv1.Decision{Actor: "ann", Reason: "changed her mind"}
	t.Run("while an attempt is in flight", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newFixture(t)
			release := w.participant.stall("action 2")
			handle := w.start(3)
			<-w.participant.held
			if err := w.engine.Cancel(t.Context(), handle.ID, engine.CancelParams{Decision: decision}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if seen := w.participant.seen(); slices.Contains(seen, "compensation 1#1") {
				t.Fatalf("compensated while the attempt was in flight: %v", seen)
			}
			release()
			if got := w.await(handle.ID); got != compensated {
				t.Fatalf("ended as %v", got)
			}
			want := []string{"action 1#1", "action 2#1", "compensation 2#1", "compensation 1#1"}
			if diff := cmp.Diff(want, w.participant.seen()); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("while it waits for its next attempt", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newFixture(t)
			w.participant.delay = time.Hour
			w.participant.answer("action 2", unknown)
			handle := w.start(3)
			synctest.Wait()
			if err := w.engine.Cancel(t.Context(), handle.ID, engine.CancelParams{Decision: decision}); err != nil {
				t.Fatal(err)
			}
			if got := w.await(handle.ID); got != compensated {
				t.Fatalf("ended as %v", got)
			}
			if seen := w.participant.seen(); !slices.Contains(seen, "compensation 2#1") {
				t.Errorf("step 2 may have run and wasn't undone: %v", seen)
			}
		})
	})
	t.Run("while its participant is down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newFixture(t)
			w.participant.down()
			handle := w.start(1)
			synctest.Wait()
			if err := w.engine.Cancel(t.Context(), handle.ID, engine.CancelParams{Decision: decision}); err != nil {
				t.Fatal(err)
			}
			if got := w.await(handle.ID); got != compensated {
				t.Fatalf("ended as %v", got)
			}
			if seen := w.participant.seen(); len(seen) != 0 {
				t.Errorf("a command that was never sent was undone: %v", seen)
			}
			w.participant.up()
		})
	})
	t.Run("after the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newFixture(t)
			handle := w.start(1)
			w.await(handle.ID)
			err := w.engine.Cancel(t.Context(), handle.ID, engine.CancelParams{Decision: decision})
			if !errors.Is(err, machine.ErrEnded) {
				t.Errorf("got %v", err)
			}
			err = w.engine.Cancel(t.Context(), "nobody", engine.CancelParams{Decision: decision})
			if !errors.Is(err, journal.ErrNotFound) {
				t.Errorf("got %v", err)
			}
		})
	})
}

// TestDeadline checks that a deadline passes while a step waits for its next attempt, after a restart.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.delay = 100 * time.Hour
		w.participant.answer("action 2", unknown)
		handle, err := w.engine.Start(t.Context(),
			engine.StartParams{Definition: definition, Request: request(t, 2), Deadline: 10 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		<-time.After(5 * time.Minute) // virtual time
		w.participant.answer("action 2", unknown)
		w.stop()
		w.open()
		end, err := w.engine.Await(t.Context(), handle.ID)
		if err != nil || end.State != compensated ||
			w.get(handle.ID).GetCause() != treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE {
			t.Fatalf("got %v, %v", end, err)
		}
		if took := time.Since(began); took < 10*time.Minute || took > 10*time.Minute+time.Second {
			t.Errorf("the deadline of ten minutes fired after %v", took)
		}
	})
}

func TestSuspendedGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.answer("action 2", refused)
		w.participant.answer("compensation 1", refused)
		handle := w.start(2)
		synctest.Wait()
		if got := w.get(handle.ID); got.GetState() != suspended || got.GetSuspension().GetStep() != "1" {
			t.Fatalf("got %v", got)
		}
		w.stop()
		w.open()
		if err := w.engine.Resume(t.Context(), handle.ID,
			engine.ResumeParams{Action: machine.Retry, Decision: &treatyv1.Decision{Actor: "ann"}}); err != nil {
			t.Fatal(err)
		}
		if end, err := w.engine.Await(t.Context(), handle.ID); err != nil || end.State != compensated {
			t.Fatalf("got %v, %v", end, err)
		}
		if err := w.engine.Resume(t.Context(), handle.ID, engine.ResumeParams{Action: machine.Retry}); !errors.Is(err,
			machine.ErrNotSuspended) {
			t.Errorf("got %v", err)
		}
	})
}

// TestStopAnswersThoseWhoWait stops the engine during an attempt. Those who await the saga's end hear at once that the
// engine stops, and not when the attempt has ended.
func TestStopAnswersThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		release := w.participant.stall("action 1")
		handle := w.start(1)
		<-w.participant.held
		errs := make(chan error, 2)
		for _, await := range []func() error{
			func() error { _, err := handle.Await(t.Context()); return err },
			func() error { _, err := w.engine.Await(t.Context(), handle.ID); return err },
		} {
			go func() { errs <- await() }()
		}
		synctest.Wait()
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			w.engine.Stop(t.Context())
		}()
		synctest.Wait()
		for range cap(errs) {
			select {
			case err := <-errs:
				if !errors.Is(err, engine.ErrStopping) {
					t.Errorf("got %v", err)
				}
			default:
				t.Error("a caller waits for the attempt in flight")
			}
		}
		select {
		case <-stopped:
			t.Error("the engine doesn't wait for the attempt in flight")
		default:
		}
		release()
		<-stopped
		if end, err := handle.Await(t.Context()); err != nil || end.State != succeeded {
			t.Errorf("a saga that ended while the engine stopped: %v, %v", end, err)
		}
	})
}

// TestStopWaits stops the engine during an attempt. The attempt ends first, and its outcome is recorded.
func TestStopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		release := w.participant.stall("action 1")
		handle := w.start(2)
		<-w.participant.held
		time.AfterFunc(time.Second, release)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w.engine.Stop(ctx)
		if _, err := w.engine.Start(t.Context(), engine.StartParams{Definition: definition}); !errors.Is(err,
			engine.ErrStopping) {
			t.Errorf("starting while stopping: %v", err)
		}
		if got := w.get(handle.ID); got.GetSteps()[0].GetState() != treatyv1.StepState_STEP_STATE_DONE {
			t.Errorf("the outcome was lost: %v", got.GetSteps()[0])
		}
		w.open()
		if got := w.await(handle.ID); got != succeeded {
			t.Errorf("ended as %v", got)
		}
		if diff := cmp.Diff([]string{"action 1#1", "action 2#1"}, w.participant.seen()); diff != "" {
			t.Error(diff)
		}
	})
}
