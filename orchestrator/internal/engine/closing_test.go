package engine_test

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// workThenPivot is a saga with a compensatable step and a pivot.
func workThenPivot(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
	if err := work(ctx, 1); err != nil {
		return nil, err
	}
	return &benchv1.RunDone{}, saga.Call(ctx, cardv1.CardService_IssueCard_FullMethodName, &cardv1.IssueCardRequest{},
		new(cardv1.CardIssued))
}

// workThenRetriable is a saga with a compensatable step and a retriable one.
func workThenRetriable(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
	if err := work(ctx, 1); err != nil {
		return nil, err
	}
	return &benchv1.RunDone{}, saga.Call(ctx, cardv1.CardService_IssueExtraCard_FullMethodName,
		&cardv1.IssueExtraCardRequest{}, new(cardv1.ExtraCardIssued))
}

var (
	// refusedOnce is a refusal that says nothing about other attempts.
	refusedOnce = engine.Answer{
		Outcome: treatyv1.Outcome_OUTCOME_REFUSED, Evidence: engine.AttemptNotRun,
		Failure: &treatyv1.Failure{Code: int32(codes.PermissionDenied), Message: "not you"},
	}

	// notSent is the answer of a transport that didn't send the command.
	notSent = engine.Answer{
		Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Evidence: engine.AttemptNotRun,
		Failure: &treatyv1.Failure{Code: int32(codes.Unavailable), Message: "connection refused"},
	}

	// sentTwice is a refusal after the transport had sent the command once before.
	sentTwice = engine.Answer{
		Outcome: treatyv1.Outcome_OUTCOME_REFUSED, Evidence: engine.AttemptNotRun, Repeated: true,
		Failure: &treatyv1.Failure{Code: int32(codes.PermissionDenied), Message: "not you"},
	}
)

// TestRefusedInDoubt refuses an action after earlier attempts. Whether it is compensated follows from what is known
// about all of its attempts.
func TestRefusedInDoubt(t *testing.T) {
	throttled := failed(treatyv1.Outcome_OUTCOME_THROTTLED, codes.ResourceExhausted)
	doubtfulThrottled := throttled
	doubtfulThrottled.Evidence = engine.NoEvidence
	for _, test := range []struct {
		name    string
		answers []engine.Answer
		undone  bool
	}{
		{"refused at once", []engine.Answer{refusedOnce}, false},
		{"never sent, then refused", []engine.Answer{notSent, notSent, refusedOnce}, false},
		{"throttled, then refused", []engine.Answer{throttled, refusedOnce}, false},
		{"may have run, then refused", []engine.Answer{unknown, refusedOnce}, true},
		{"may have run, never sent again, then refused", []engine.Answer{unknown, notSent, refusedOnce}, true},
		{"throttled by somebody, then refused", []engine.Answer{doubtfulThrottled, refusedOnce}, true},
		{"accepted, then refused", []engine.Answer{pending(time.Second), refusedOnce}, true},
		{"sent twice by the transport", []engine.Answer{sentTwice}, true},
		{"may have run, then the stored refusal", []engine.Answer{unknown, refused}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				w.participant.answer("action 1", test.answers...)
				handle := w.start(1)
				if w.await(handle.ID) != compensated {
					t.Error("it wasn't compensated")
				}
				seen := w.participant.seen()
				if undone := slices.Contains(seen, "compensation 1#1"); undone != test.undone {
					t.Errorf("undone: %v; calls: %v", undone, seen)
				}
				if step := w.get(handle.ID).GetSteps()[0]; step.GetMayHaveRun() != test.undone {
					t.Errorf("the step is shown as %v", step)
				}
			})
		})
	}
}

// TestRecoveredCommandIsInDoubt refuses an action that an earlier process may have sent.
func TestRecoveredCommandIsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		release := w.participant.stall("action 1")
		handle := w.start(1)
		<-w.participant.held
		w.stop()
		release()
		w.participant.answer("action 1", refusedOnce)
		w.open()
		if w.await(handle.ID) != compensated {
			t.Error("it wasn't compensated")
		}
		if seen := w.participant.seen(); !slices.Contains(seen, "compensation 1#1") {
			t.Errorf("calls: %v", seen)
		}
	})
}

// TestClosesDecisiveCommand asks the participant what became of a pivot or a retriable command whose outcome is open.
func TestClosesDecisiveCommand(t *testing.T) {
	refusal := &treatyv1.Failure{Code: int32(codes.NotFound), Message: "no such customer"}
	for _, test := range []struct {
		name   string
		closed []engine.Closed
		pivot  treatyv1.SagaState // of a saga with a pivot
		reason treatyv1.SuspensionReason
	}{
		{"was executed", []engine.Closed{{Verdict: engine.WasExecuted, Reply: []byte{}}}, succeeded, 0},
		{"was refused", []engine.Closed{{Verdict: engine.WasRefused, Failure: refusal}}, compensated, 0},
		{"never arrived", []engine.Closed{{Verdict: engine.ClosedNow}}, compensated, 0},
		{"was compensated", []engine.Closed{{Verdict: engine.WasCompensated}}, compensated, 0},
		{"isn't answered at first", []engine.Closed{
			{}, {}, {Verdict: engine.WasExecuted, Reply: []byte{}},
		}, succeeded, 0},
		{
			"is pending",
			[]engine.Closed{{Verdict: engine.WasAccepted}},
			suspended, treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING,
		},
		{
			"isn't kept",
			[]engine.Closed{{Verdict: engine.NotKept}},
			suspended, treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		},
		{
			"is another command",
			[]engine.Closed{{Halt: engine.HaltOtherRequest}},
			suspended, treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST,
		},
		{
			"is no longer known",
			[]engine.Closed{{Halt: engine.HaltPurged}},
			suspended, treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED,
		},
		{
			"is never answered",
			slices.Repeat([]engine.Closed{{}}, 100000),
			suspended, treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, workThenPivot)
				w.participant.delay = time.Second
				w.participant.answer("action 2", unknown, refusedOnce)
				w.participant.closes["2"] = test.closed
				handle := w.start(1)
				pass(24 * time.Hour)
				got := w.get(handle.ID)
				if got.GetState() != test.pivot || got.GetSuspension().GetReason() != test.reason {
					t.Errorf("got %v, %v; calls: %v", got.GetState(), got.GetSuspension(), w.participant.seen())
				}
				row, err := w.store.Get(t.Context(), handle.ID)
				if err != nil || row.Suspension != test.reason {
					t.Errorf("the store lists %+v, %v", row, err)
				}
				if test.reason == treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN &&
					got.GetSuspension().GetFailure().GetMessage() != "not you" {
					t.Errorf("the suspension doesn't show the refusal: %v", got.GetSuspension())
				}
			})
		})
	}
}

// TestRetriableIsClosed asks about a retriable command, as about a pivot.
func TestRetriableIsClosed(t *testing.T) {
	for verdict, want := range map[engine.Verdict]treatyv1.SagaState{
		engine.WasExecuted: succeeded, engine.NotKept: suspended,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, workThenRetriable)
			w.participant.answer("action 2", unknown, refusedOnce)
			w.participant.closes["2"] = []engine.Closed{{Verdict: verdict, Reply: []byte{}}}
			handle := w.start(1)
			pass(time.Hour)
			if got := w.get(handle.ID); got.GetState() != want {
				t.Errorf("verdict %v: got %v, %v", verdict, got.GetState(), got.GetSuspension())
			}
		})
	}
}

// TestDecisionsAskTheParticipant makes decisions about a pivot that contradict what its participant says.
func TestDecisionsAskTheParticipant(t *testing.T) {
	decision := &treatyv1.Decision{Actor: "ann", Reason: "looked it up"}
	for _, test := range []struct {
		name   string
		action machine.ResumeAction
		closed engine.Verdict
		known  engine.Verdict
		want   error
	}{
		{"mark refused what was executed", machine.MarkRefused, engine.WasExecuted, 0, machine.ErrDecisionUnfit},
		{"mark refused what was accepted", machine.MarkRefused, engine.WasAccepted, 0, machine.ErrDecisionUnfit},
		{"mark refused what was refused", machine.MarkRefused, engine.WasRefused, 0, nil},
		{"mark refused what never arrived", machine.MarkRefused, engine.ClosedNow, 0, nil},
		{"mark refused what isn't kept", machine.MarkRefused, engine.NotKept, 0, nil},
		{"mark refused without an answer", machine.MarkRefused, engine.NotAnswered, 0, engine.ErrNotAsked},
		{"mark done what was refused", machine.MarkDone, 0, engine.WasRefused, machine.ErrDecisionUnfit},
		{"mark done what was compensated", machine.MarkDone, 0, engine.WasCompensated, machine.ErrDecisionUnfit},
		{"mark done what was executed", machine.MarkDone, 0, engine.WasExecuted, nil},
		{"mark done what isn't kept", machine.MarkDone, 0, engine.NotKept, nil},
		{"mark done without an answer", machine.MarkDone, 0, engine.NotAnswered, engine.ErrNotAsked},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, workThenPivot)
				w.participant.answer("action 2", unknown, refusedOnce)
				handle := w.start(1)
				pass(time.Hour)
				w.participant.mu.Lock()
				w.participant.closes["2"] = []engine.Closed{{Verdict: test.closed}}
				w.participant.known["2"] = engine.Known{Verdict: test.known}
				w.participant.mu.Unlock()
				err := w.engine.Resume(t.Context(), handle.ID, engine.ResumeParams{
					Action: test.action, Decision: decision, Payload: []byte{},
				})
				if !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				synctest.Wait()
				if state := w.get(handle.ID).GetState(); (state == suspended) != (test.want != nil) {
					t.Errorf("after %v the saga is %v", err, state)
				}
			})
		})
	}
}

// TestTakesOverOtherRequest lets a person take over what the participant has under the command id.
func TestTakesOverOtherRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.answer("action 1", engine.Answer{
			Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Evidence: engine.AttemptNotRun, Halt: engine.HaltOtherRequest,
			Failure: &treatyv1.Failure{Code: int32(codes.Internal), Message: "another request"},
		})
		handle := w.start(2)
		synctest.Wait()
		if got := w.get(handle.ID).GetSuspension().GetReason(); got !=
			treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST {
			t.Fatalf("got %v", got)
		}
		w.participant.answer("action 2", refused)
		w.participant.known["1"] = engine.Known{
			Verdict: engine.WasExecuted, Method: benchMethod, Digest: "0123456789",
		}
		w.participant.closes["1"] = []engine.Closed{{Verdict: engine.WasExecuted, Reply: []byte{}}}
		if err := w.engine.Resume(t.Context(), handle.ID, engine.ResumeParams{
			Action: machine.TakeOver, Decision: &treatyv1.Decision{Actor: "ann"},
		}); err != nil {
			t.Fatal(err)
		}
		if w.await(handle.ID) != compensated {
			t.Error("it wasn't compensated")
		}
		if got := w.participant.digests["compensation 1"]; got != "0123456789" {
			t.Errorf("the compensation names %q", got)
		}
	})
}

const benchMethod = "bench.v1.WorkService/Work"

// TestUnsettledCompletion completes a pivot with a refusal of which nobody says that it was stored.
func TestUnsettledCompletion(t *testing.T) {
	for _, test := range []struct {
		name   string
		closed engine.Verdict
		want   treatyv1.SagaState
		err    error
	}{
		{"the participant confirms it", engine.WasRefused, compensated, nil},
		{"the participant knows better", engine.WasExecuted, succeeded, nil},
		{"the participant can't say", engine.NotKept, suspended, nil},
		{"the participant doesn't answer", engine.NotAnswered, treatyv1.SagaState_SAGA_STATE_RUNNING,
			engine.ErrNotAsked},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, workThenPivot)
				w.participant.answer("action 2", pending(time.Hour))
				handle := w.start(1)
				synctest.Wait()
				w.participant.closes["2"] = []engine.Closed{{Verdict: test.closed, Reply: []byte{}}}
				err := w.engine.Complete(t.Context(), engine.Completion{
					Saga: handle.ID, Step: "2", Direction: engine.Action, Refusal: &treatyv1.Failure{Code: 9},
				})
				if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
					t.Errorf("got %v, want %v", err, test.err)
				}
				synctest.Wait()
				if got := w.get(handle.ID).GetState(); got != test.want {
					t.Errorf("the saga is %v, want %v", got, test.want)
				}
			})
		})
	}
}

// TestCancelsUnsentPivot cancels sagas whose pivot was never sent, and sagas of which that isn't known.
func TestCancelsUnsentPivot(t *testing.T) {
	cancel := func(w *fixture, id string) error {
		return w.engine.Cancel(w.t.Context(), id, byAnn)
	}
	t.Run("the participant is down from the start", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, workThenPivot)
			release := w.participant.stall("action 1")
			handle := w.start(1)
			<-w.participant.held
			w.participant.down()
			release()
			synctest.Wait()
			if err := cancel(w, handle.ID); err != nil {
				t.Fatal(err)
			}
			w.participant.up()
			if w.await(handle.ID) != compensated {
				t.Error("it wasn't compensated")
			}
			if diff := cmp.Diff([]string{"action 1#1", "compensation 1#1"}, w.participant.seen()); diff != "" {
				t.Error(diff)
			}
		})
	})
	t.Run("the connection is refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, workThenPivot)
			w.participant.delay = time.Minute
			w.participant.answer("action 2", notSent, notSent)
			handle := w.start(1)
			synctest.Wait()
			if err := cancel(w, handle.ID); err != nil {
				t.Fatal(err)
			}
			if w.await(handle.ID) != compensated || slices.Contains(w.participant.seen(), "action 2#2") {
				t.Errorf("calls: %v", w.participant.seen())
			}
		})
	})
	t.Run("an attempt is being made", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, workThenPivot)
			release := w.participant.stall("action 2")
			handle := w.start(1)
			<-w.participant.held
			if err := cancel(w, handle.ID); !errors.Is(err, machine.ErrPivotInFlight) {
				t.Errorf("got %v", err)
			}
			release()
			if w.await(handle.ID) != succeeded {
				t.Error("it didn't succeed")
			}
		})
	})
	t.Run("the commit of the decision is in doubt", func(t *testing.T) {
		for _, written := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, workThenPivot)
				w.stop()
				inner, failing := w.store, false
				w.store = &hooked{Store: inner, onAppend: func(group []*journal.Entry) error {
					if !failing {
						return nil
					}
					failing = false
					if written {
						_ = inner.Append(t.Context(), group)
					}
					return errors.New("the disk is gone")
				}}
				w.open()
				w.participant.delay = time.Minute
				w.participant.answer("action 2", notSent)
				handle := w.start(1)
				synctest.Wait()
				failing = true
				if err := cancel(w, handle.ID); !errors.Is(err, engine.ErrInDoubt) {
					t.Errorf("got %v", err)
				}
				want, calls := compensated, []string{"action 1#1", "action 2#1", "compensation 1#1"}
				if !written {
					want, calls = succeeded, []string{"action 1#1", "action 2#1", "action 2#2"}
				}
				if got := w.await(handle.ID); got != want {
					t.Errorf("got %v, want %v", got, want)
				}
				if diff := cmp.Diff(calls, w.participant.seen()); diff != "" {
					t.Error(diff)
				}
			})
		}
	})
}

// TestDeadlineOfUnsentPivot lets the deadline of a saga pass while its pivot can't be sent.
func TestDeadlineOfUnsentPivot(t *testing.T) {
	for _, parked := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := language(t, workThenPivot)
			w.participant.delay = 7 * time.Minute
			release := w.participant.stall("action 1")
			handle, err := w.engine.Start(t.Context(), engine.StartParams{
				Definition: definition, Request: request(t, 1), Deadline: 10 * time.Minute,
			})
			if err != nil {
				t.Fatal(err)
			}
			<-w.participant.held
			if parked {
				w.participant.down()
			} else {
				w.participant.answer("action 2", notSent, notSent, notSent, notSent)
			}
			release()
			pass(11 * time.Minute)
			w.participant.up()
			if w.await(handle.ID) != compensated ||
				w.get(handle.ID).GetCause() != treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE {
				t.Errorf("got %v", w.get(handle.ID))
			}
			for _, call := range w.participant.seen() {
				if parked && call == "action 2#1" || call == "action 2#3" {
					t.Errorf("the pivot was sent after the deadline: %v", w.participant.seen())
				}
			}
		})
	}
}
