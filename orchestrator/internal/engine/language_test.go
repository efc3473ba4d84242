package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/gen/acme/privacy/v1/privacyv1saga"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// language returns a fixture whose sagas have this code.
func language(t *testing.T, code func(ctx saga.Context, in *benchv1.RunRequest) (*benchv1.RunDone, error)) *fixture {
	t.Helper()
	w := newFixture(t)
	w.stop()
	saga.Register(w.code, benchv1.WorkSagas_Run_FullMethodName, code)
	w.open()
	return w
}

// crash opens the store with a new engine, as after kill -9. The store rejects later writes of the old one.
func (w *fixture) crash() {
	w.t.Helper()
	w.stop()
	w.store = w.store.(*journaltest.Memory).Reopen()
	w.open()
}

// pass lets virtual time pass.
func pass(d time.Duration) { <-time.After(d) }

func work(ctx saga.Context, step int32) error {
	request := &benchv1.WorkRequest{Step: step}
	return saga.Call(ctx, benchv1.WorkService_Work_FullMethodName, request, new(benchv1.WorkDone))
}

func (w *fixture) loaded(want int) {
	w.t.Helper()
	synctest.Wait()
	if known, loaded := w.engine.Loaded(); known != want || loaded > want {
		w.t.Errorf("%d sagas are in memory, %d of them loaded; want %d", known, loaded, want)
	}
}

func TestSleepCostsNothing(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash=%v", crash), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const long = 3 * 24 * time.Hour
				w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
					saga.Sleep(ctx, long)
					return &benchv1.RunDone{}, work(ctx, 1)
				})
				began := time.Now()
				handle := w.start(1)
				w.loaded(0)
				if row, err := w.store.Get(t.Context(), handle.ID); err != nil || !row.Waiting ||
					!row.Due.Equal(began.Add(long)) {
					t.Fatalf("the row says %+v: %v", row, err)
				}
				pass(long / 2)
				if crash {
					w.crash()
					w.loaded(0)
				}
				pass(long/2 - time.Microsecond)
				synctest.Wait()
				if seen := w.participant.seen(); len(seen) > 0 {
					t.Fatalf("woke early: %v", seen)
				}
				if w.await(handle.ID) != succeeded {
					t.Error("it didn't succeed")
				}
				if took := time.Since(began); took != long {
					t.Errorf("slept %v, want %v", took, long)
				}
			})
		})
	}
}

func TestManyWakeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(time.Hour)
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			saga.SleepUntil(ctx, until)
			return &benchv1.RunDone{}, work(ctx, 1)
		})
		var handles []*engine.Handle
		for range 500 {
			handles = append(handles, w.start(1))
		}
		pass(time.Hour)
		for _, handle := range handles {
			if w.await(handle.ID) != succeeded {
				t.Fatalf("%s didn't succeed", handle.ID)
			}
		}
	})
}

func verified(applicant string) *journal.Event {
	data, _ := proto.Marshal(&identityv1.ApplicantVerified{Applicant: applicant, RegisterReference: "1"})
	return &journal.Event{
		Source: "register", ID: applicant, Type: "acme.identity.v1.ApplicantVerified", Subject: applicant, Data: data,
	}
}

func (w *fixture) publish(events ...*journal.Event) {
	w.t.Helper()
	if _, err := w.engine.Publish(w.t.Context(), events); err != nil {
		w.t.Fatal(err)
	}
}

// awaiter is a saga that sends a command, awaits an event for an hour, and sends another one.
func awaiter(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
	if err := work(ctx, 1); err != nil {
		return nil, err
	}
	if _, err := identityv1saga.AwaitApplicantVerified(ctx, "applicants/ada", saga.Within(time.Hour)); err != nil {
		return nil, err
	}
	return &benchv1.RunDone{}, work(ctx, 3)
}

func TestEventWakes(t *testing.T) {
	for name, act := range map[string]func(w *fixture){
		"while it waits": func(w *fixture) {
			synctest.Wait()
			w.loaded(0)
			w.publish(verified("applicants/bob"), verified("applicants/ada"))
		},
		"while it waits, after a crash": func(w *fixture) {
			synctest.Wait()
			w.crash()
			w.publish(verified("applicants/ada"))
		},
		"and the process dies before the saga receives it": func(w *fixture) {
			synctest.Wait()
			w.stop()
			memory := w.store.(*journaltest.Memory).Reopen()
			event := verified("applicants/ada")
			event.StoreTime = time.Now()
			if err := memory.Append(w.t.Context(), []*journal.Entry{{Events: []*journal.Event{event}}}); err != nil {
				w.t.Fatal(err)
			}
			w.store = memory.Reopen()
			w.open()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, awaiter)
				handle := w.start(1)
				began := time.Now()
				act(w)
				if got := w.await(handle.ID); got != succeeded {
					t.Errorf("ended as %v", got)
				}
				if took := time.Since(began); took > time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
	t.Run("before it is awaited", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, awaiter)
			w.publish(verified("applicants/ada")) // before the saga started, so it doesn't count
			release := w.participant.stall("action 1")
			handle := w.start(1)
			<-w.participant.held
			again := verified("applicants/ada")
			again.ID = "again"
			w.publish(again)
			release()
			if got := w.await(handle.ID); got != succeeded {
				t.Errorf("ended as %v", got)
			}
		})
	})
	t.Run("too late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, awaiter)
			w.publish(verified("applicants/ada"))
			handle := w.start(1)
			if got := w.await(handle.ID); got != compensated {
				t.Errorf("ended as %v", got)
			}
		})
	})
}

// TestPublishCountsTheWoken publishes events for which no, one and two sagas wait, and one of them again.
func TestPublishCountsTheWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, awaiter)
		publish := func(when string, want int, events ...*journal.Event) {
			t.Helper()
			synctest.Wait()
			got, err := w.engine.Publish(t.Context(), events)
			if err != nil || got != want {
				t.Errorf("%s, it woke %d sagas, want %d: %v", when, got, want, err)
			}
		}
		publish("before there is a saga", 0, verified("applicants/ada"))
		for range 2 {
			w.start(1)
		}
		publish("for another key", 0, verified("applicants/bob"))
		again := verified("applicants/ada")
		again.ID = "again"
		publish("while two wait", 2, again, verified("applicants/eve"))
		publish("again", 0, again)
	})
}

func TestPublishingAgainChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		first, second, other := verified("applicants/ada"), verified("applicants/ada"), verified("applicants/ada")
		w.publish(first)
		w.publish(second)
		if first.Position == 0 || first.Position != second.Position {
			t.Errorf("positions %d and %d", first.Position, second.Position)
		}
		other.Data = nil
		if _, err := w.engine.Publish(t.Context(), []*journal.Event{other}); !errors.Is(err, engine.ErrOtherEvent) {
			t.Errorf("got %v", err)
		}
	})
}

func pending(d time.Duration) engine.Answer {
	return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Pending: d,
		Failure: &treatyv1.Failure{Code: 14, Message: "accepted"}}
}

func twoSteps(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
	if err := work(ctx, 1); err != nil {
		return nil, err
	}
	return &benchv1.RunDone{}, work(ctx, 2)
}

func (w *fixture) complete(id, step string, direction engine.Direction, refusal *treatyv1.Failure) error {
	reply, _ := proto.Marshal(&benchv1.WorkDone{Payload: []byte("late")})
	return w.engine.Complete(w.t.Context(), engine.Completion{Saga: id, Step: step, Direction: direction, Reply: reply,
		Refusal: refusal})
}

func TestPending(t *testing.T) {
	t.Run("is completed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, twoSteps)
			w.participant.answer("action 1", pending(time.Hour))
			handle := w.start(1)
			synctest.Wait()
			if attempts := w.get(handle.ID).GetSteps()[0].GetAttempts(); !attempts.GetAccepted() ||
				attempts.GetNextTime() == nil {
				t.Errorf("the step shows %v", attempts)
			}
			if err := w.complete(handle.ID, "1", engine.Action, nil); err != nil {
				t.Fatal(err)
			}
			if w.await(handle.ID) != succeeded {
				t.Error("it didn't succeed")
			}
			if err := w.complete(handle.ID, "1", engine.Action, nil); err != nil {
				t.Errorf("completing again: %v", err)
			}
			if err := w.complete(handle.ID, "1", engine.Action, &treatyv1.Failure{Code: 9}); !errors.Is(err,
				engine.ErrStepEnded) {
				t.Errorf("completing in another way: %v", err)
			}
			if err := w.complete(handle.ID, "7", engine.Action, nil); !errors.Is(err, engine.ErrStepNotFound) {
				t.Errorf("completing a step that doesn't exist: %v", err)
			}
			if err := w.complete("nobody", "1", engine.Action, nil); !errors.Is(err, journal.ErrNotFound) {
				t.Errorf("completing a step of a saga that doesn't exist: %v", err)
			}
			if diff := cmp.Diff([]string{"action 1#1", "action 2#1"}, w.participant.seen()); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("is refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, twoSteps)
			w.participant.answer("action 2", pending(time.Hour))
			w.participant.answer("compensation 1", pending(time.Hour))
			handle := w.start(1)
			synctest.Wait()
			if err := w.complete(handle.ID, "2", engine.Action,
				&treatyv1.Failure{Code: 9, Message: "no longer wanted"}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if err := w.complete(handle.ID, "1", engine.Compensation, nil); err != nil {
				t.Fatal(err)
			}
			if w.await(handle.ID) != compensated {
				t.Error("it wasn't compensated")
			}
		})
	})
	t.Run("is sent again without a completion or heartbeat", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, twoSteps)
			w.participant.answer("action 1", slices.Repeat([]engine.Answer{pending(time.Minute)}, 30)...)
			handle := w.start(1)
			began := time.Now()
			for range 59 { // every half minute, for half an hour
				pass(30 * time.Second)
				if err := w.engine.Heartbeat(t.Context(), handle.ID, "1", engine.Action); err != nil {
					t.Fatal(err)
				}
			}
			if seen := w.participant.seen(); len(seen) != 1 {
				t.Fatalf("sent again in spite of heartbeats: %v", seen)
			}
			if w.await(handle.ID) != succeeded { // the retry policy's ten minutes don't count
				t.Error("it didn't succeed")
			}
			if took := time.Since(began); took < 59*time.Minute {
				t.Errorf("it took %v", took)
			}
			if err := w.engine.Heartbeat(t.Context(), handle.ID, "1", engine.Action); !errors.Is(err,
				engine.ErrStepEnded) {
				t.Errorf("a heartbeat for a step that has ended: %v", err)
			}
		})
	})
	t.Run("survives a crash", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, twoSteps)
			w.participant.answer("action 1", pending(time.Hour), pending(time.Hour))
			handle := w.start(1)
			synctest.Wait()
			w.crash()
			synctest.Wait()
			if err := w.engine.Heartbeat(t.Context(), handle.ID, "1", engine.Action); err != nil {
				t.Error(err)
			}
			if err := w.complete(handle.ID, "1", engine.Action, nil); err != nil {
				t.Fatal(err)
			}
			if w.await(handle.ID) != succeeded {
				t.Error("it didn't succeed")
			}
		})
	})
	t.Run("may have run when the saga is cancelled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, twoSteps)
			w.participant.answer("action 1", pending(time.Hour))
			handle := w.start(1)
			synctest.Wait()
			if err := w.engine.Cancel(t.Context(), handle.ID, byAnn); err != nil {
				t.Fatal(err)
			}
			if w.await(handle.ID) != compensated {
				t.Error("it wasn't compensated")
			}
			if diff := cmp.Diff([]string{"action 1#1", "compensation 1#1"}, w.participant.seen()); diff != "" {
				t.Error(diff)
			}
			if err := w.complete(handle.ID, "1", engine.Action, nil); !errors.Is(err, engine.ErrStepEnded) {
				t.Errorf("completing too late: %v", err)
			}
		})
	})
}

func TestBroadcastWaitsForConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			answers, err := privacyv1saga.DeleteUserData(ctx,
				&privacyv1.DeleteUserDataRequest{Customer: "customers/ada"})
			return &benchv1.RunDone{Steps: int32(len(answers))}, err
		})
		w.participant.configure()
		handle := w.start(1)
		synctest.Wait()
		if seen := w.participant.seen(); len(seen) > 0 {
			t.Fatalf("sent to %v, although no participant is configured", seen)
		}
		want := []*treatyv1.Wait{{Wait: "1", Broadcast: "acme.privacy.v1.UserDataService/DeleteUserData"}}
		if diff := cmp.Diff(want, w.get(handle.ID).GetWaits(), protocmp.Transform()); diff != "" {
			t.Errorf("it waits for (-want +got):\n%s", diff)
		}
		w.participant.configure("a.A", "b.B", "c.C")
		w.crash() // the next orchestrator is configured with participants
		if w.await(handle.ID) != succeeded {
			t.Fatal("it didn't succeed")
		}
		if waits := w.get(handle.ID).GetWaits(); len(waits) > 0 {
			t.Errorf("it waits for %v after its end", waits)
		}
		seen := w.participant.seen()
		slices.Sort(seen)
		if diff := cmp.Diff([]string{"action 1.1.1#1 at a.A", "action 1.2.1#1 at b.B", "action 1.3.1#1 at c.C"},
			seen); diff != "" {
			t.Error(diff)
		}
	})
}

func child(id string) engine.StartParams {
	return engine.StartParams{
		Definition: definition, SagaID: id, Parent: &treatyv1.Parent{CommandId: "sagas/p/steps/1",
			Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE},
	}
}

func TestUndoChild(t *testing.T) {
	t.Run("that succeeded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, twoSteps)
			if _, err := w.engine.Start(t.Context(), child("c")); err != nil {
				t.Fatal(err)
			}
			if w.await("c") != succeeded {
				t.Fatal("it didn't succeed")
			}
			for range 2 {
				if err := w.engine.CompensateChild(t.Context(), child("c")); err != nil {
					t.Fatal(err)
				}
			}
			want := []string{"action 1#1", "action 2#1", "compensation 2#1", "compensation 1#1"}
			if diff := cmp.Diff(want, w.participant.seen()); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("that runs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, twoSteps)
			release := w.participant.stall("action 2")
			if _, err := w.engine.Start(t.Context(), child("c")); err != nil {
				t.Fatal(err)
			}
			<-w.participant.held
			undone := make(chan error, 1)
			go func() { undone <- w.engine.CompensateChild(t.Context(), child("c")) }()
			synctest.Wait()
			release()
			if err := <-undone; err != nil {
				t.Fatal(err)
			}
			if w.await("c") != compensated {
				t.Error("it wasn't compensated")
			}
		})
	})
	t.Run("that never started", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, twoSteps)
			if err := w.engine.CompensateChild(t.Context(), child("c")); err != nil {
				t.Fatal(err)
			}
			handle, err := w.engine.Start(t.Context(), child("c"))
			if err != nil || !handle.Existing {
				t.Fatalf("a start that comes late: %v, %v", handle, err)
			}
			if w.await("c") != compensated || len(w.participant.seen()) > 0 {
				t.Errorf("something ran: %v", w.participant.seen())
			}
		})
	})
}

// A child that its parent has sent as a retriable command doesn't undo itself when its code fails: its parent can't go
// back.
func TestRetriableChild(t *testing.T) {
	params := child("c")
	params.Parent.Kind = treatyv1.CommandKind_COMMAND_KIND_RETRIABLE
	t.Run("fails, and succeeds with other code", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			fixed := false
			w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
				if !fixed {
					return nil, errors.New("no such customer")
				}
				_, err := privacyv1saga.DeleteUserData(ctx, &privacyv1.DeleteUserDataRequest{Customer: "customers/ada"})
				return &benchv1.RunDone{}, err
			})
			w.participant.configure("a.A")
			if _, err := w.engine.Start(t.Context(), params); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := w.get("c"); got.GetState() != suspended || got.GetSuspension().GetReason() !=
				treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT {
				t.Fatalf("it is %s: %v", got.GetState(), got.GetSuspension())
			} else if got.GetParentKind() != params.Parent.GetKind() {
				t.Errorf("it is shown as %s of its parent", got.GetParentKind())
			}
			err := w.engine.Cancel(t.Context(), "c", engine.CancelParams{Decision: &treatyv1.Decision{}})
			if !errors.Is(err, machine.ErrPastPivot) {
				t.Errorf("cancelling it: %v", err)
			}
			fixed = true
			w.crash()
			if err := w.engine.Resume(t.Context(), "c", engine.ResumeParams{Action: machine.Retry}); err != nil {
				t.Fatal(err)
			}
			if w.await("c") != succeeded {
				t.Error("it didn't succeed")
			}
			if diff := cmp.Diff([]string{"action 1.1.1#1 at a.A"}, w.participant.seen()); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("is closed before it starts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, twoSteps)
			closed, err := w.engine.CloseChild(t.Context(), params)
			if err != nil || closed.Verdict != engine.ClosedNow {
				t.Fatalf("got %v, %v", closed, err)
			}
			if _, err := w.engine.Start(t.Context(), params); err != nil {
				t.Fatal(err)
			}
			if w.await("c") != compensated || len(w.participant.seen()) > 0 {
				t.Errorf("something ran: %v", w.participant.seen())
			}
		})
	})
}

func TestRestartForgetsTheRoundBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, func(ctx saga.Context, in *benchv1.RunRequest) (*benchv1.RunDone, error) {
			if err := work(ctx, 1); err != nil {
				return nil, err
			}
			saga.Sleep(ctx, time.Hour)
			if in.GetSteps() == 0 {
				return &benchv1.RunDone{}, nil
			}
			return nil, saga.Restart(ctx, &benchv1.RunRequest{Steps: in.GetSteps() - 1})
		})
		handle := w.start(3)
		for round := range 3 {
			pass(time.Hour + time.Minute)
			synctest.Wait()
			stored, err := w.store.Load(t.Context(), handle.ID)
			if err != nil || len(stored.Turns) != 2 || stored.Turns[0].Number == 1 {
				t.Fatalf("round %d: %d turns are kept, beginning with %d: %v", round, len(stored.Turns),
					stored.Turns[0].Number, err)
			}
			w.crash()
		}
		params := engine.StartParams{Definition: definition, Request: request(t, 3), SagaID: handle.ID}
		if again, err := w.engine.Start(t.Context(), params); err != nil || !again.Existing {
			t.Errorf("starting it again with its first request: %v", err)
		}
		params.Request = request(t, 2)
		if _, err := w.engine.Start(t.Context(), params); !errors.Is(err, engine.ErrOtherRequest) {
			t.Errorf("starting it again with another request: %v", err)
		}
		if w.await(handle.ID) != succeeded {
			t.Error("it didn't succeed")
		}
		if diff := cmp.Diff([]string{"action 1#1", "action r2.1#1", "action r3.1#1", "action r4.1#1"},
			w.participant.seen()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.stop()
		w.retention, w.eventRetention = map[string]time.Duration{definition: time.Hour}, 30*time.Minute
		w.open()
		w.publish(verified("applicants/ada"), verified("applicants/bob"))
		params := engine.StartParams{Definition: definition, Request: request(t, 1), RequestID: "once"}
		ended, err := w.engine.Start(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		if w.await(ended.ID) != succeeded {
			t.Fatal("it didn't succeed")
		}
		calls := len(w.participant.seen())
		pass(59 * time.Minute)
		if _, err := w.store.Get(t.Context(), ended.ID); err != nil {
			t.Errorf("purged early: %v", err)
		}
		pass(3 * time.Minute)
		if _, err := w.store.Get(t.Context(), ended.ID); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("not purged: %v", err)
		}
		if events, err := w.store.Events(t.Context(), journal.EventsParams{Limit: 10}); err != nil || len(events) > 1 {
			t.Errorf("%d events are kept: %v", len(events), err)
		}
		if _, err := w.engine.Start(t.Context(), params); !errors.Is(err, engine.ErrPurged) {
			t.Errorf("a start with the request id of a saga that was purged: %v", err)
		}
		if got := len(w.participant.seen()); got != calls {
			t.Errorf("%d commands were sent, want %d", got, calls)
		}
		synctest.Wait()
		if known, _ := w.engine.Loaded(); known != 0 {
			t.Errorf("%d sagas are in memory", known)
		}
	})
}

func TestVerify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, awaiter)
		handle := w.start(1)
		synctest.Wait()
		if n, findings := w.verify(w.code); n != 1 || len(findings) > 0 {
			t.Errorf("%d sagas, found %v", n, findings)
		}
		if _, findings := w.verify(nil); len(findings) != 1 || findings[0].GetFound() != "none is registered" {
			t.Errorf("without code: found %v", findings)
		}
		other := make(registrar)
		saga.Register(other, benchv1.WorkSagas_Run_FullMethodName, twoSteps)
		_, findings := w.verify(other)
		if len(findings) != 1 {
			t.Fatalf("with other code: found %v", findings)
		}
		got := [3]string{findings[0].GetStep(), findings[0].GetExpected(), findings[0].GetFound()}
		want := [3]string{
			"2", "wait 2 for acme.identity.v1.ApplicantVerified of applicants/ada with a timeout", "step 2 " + action,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("with other code (-want +got):\n%s", diff)
		}
		if row, err := w.store.Get(t.Context(), handle.ID); err != nil ||
			row.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
			t.Errorf("verifying changed %v: %v", row, err)
		}
	})
}

// staleStore returns open sagas as they were a moment before: it runs a hook between reading and returning a page.
type staleStore struct {
	journal.Store
	between func()
}

func (s *staleStore) Open(ctx context.Context, params journal.OpenParams) ([]*journal.Journal, error) {
	page, err := s.Store.Open(ctx, params)
	if s.between != nil {
		between := s.between
		s.between = nil
		between()
	}
	return page, err
}

// TestRecoveryDoesntGoBack ends a saga after the recovery has read it and before the recovery continues it.
func TestRecoveryDoesntGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		release := w.participant.stall("action 1")
		handle := w.start(2)
		<-w.participant.held
		w.stop()
		release()
		stale := &staleStore{Store: w.store.(*journaltest.Memory).Reopen()}
		w.store = stale
		stale.between = func() {
			if err := w.engine.Cancel(t.Context(), handle.ID, byAnn); err != nil {
				t.Error(err)
			}
			if w.await(handle.ID) != compensated {
				t.Error("it wasn't compensated")
			}
			synctest.Wait()
		}
		w.open()
		synctest.Wait()
		if diff := cmp.Diff([]string{"action 1#1", "compensation 1#1"}, w.participant.seen()); diff != "" {
			t.Errorf("commands after the end (-want +got):\n%s", diff)
		}
	})
}

// TestJournalOfANewerVersion gives one of two sagas a record that this version doesn't know. That saga stops; the other
// continues.
func TestJournalOfANewerVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		release := w.participant.stall("action 1")
		newer, other := w.start(1), w.start(1)
		<-w.participant.held
		<-w.participant.held
		w.stop()
		release()
		w.store = w.store.(*journaltest.Memory).Reopen()
		record := protowire.AppendBytes(protowire.AppendTag(nil, 999, protowire.BytesType), []byte("from the future"))
		turn := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), record)
		entry := &journal.Entry{Saga: newer.ID, Turn: 2, Data: turn}
		if err := errors.Join(w.store.Append(t.Context(), []*journal.Entry{entry}), entry.Err); err != nil {
			t.Fatal(err)
		}
		w.open()
		if w.await(other.ID) != succeeded {
			t.Error("the other saga doesn't continue")
		}
		if _, err := w.engine.Get(t.Context(), newer.ID); !errors.Is(err, machine.ErrJournal) ||
			!strings.Contains(err.Error(), newer.ID) {
			t.Errorf("reading it: %v", err)
		}
		if err := w.engine.Cancel(t.Context(), newer.ID, engine.CancelParams{}); !errors.Is(err, machine.ErrJournal) {
			t.Errorf("cancelling it: %v", err)
		}
		if _, findings := w.verify(w.code); len(findings) != 1 || !strings.Contains(findings[0].GetFound(), "newer") {
			t.Errorf("the gate found %v", findings)
		}
	})
}
