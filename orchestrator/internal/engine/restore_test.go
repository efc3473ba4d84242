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
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// keeper is a participant that keeps what became of commands, as an inbox does. It answers through the fake
// participant.
type keeper struct {
	*participant

	states  []engine.ParticipantState
	rows    []*treatyv1.KnownCommand
	listErr error
}

func (k *keeper) Participants() []engine.ParticipantState {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.states)
}

func (k *keeper) NameOf(to engine.Destination) string {
	service, _, _ := strings.Cut(to.Method, "/")
	if service == "bench.v1.WorkService" || service == "acme.card.v1.CardService" {
		return "bench.v1.WorkService"
	}
	return service
}

func (k *keeper) ListCommands(
	_ context.Context, name string, request *treatyv1.ListCommandsRequest, yield func(*treatyv1.KnownCommand) error,
) error {
	k.mu.Lock()
	rows, err := slices.Clone(k.rows), k.listErr
	k.mu.Unlock()
	if err != nil || name != "bench.v1.WorkService" {
		return err
	}
	for _, row := range rows {
		id, _, _ := wire.SplitStep(row.GetCommandId())
		if len(request.GetSagas()) > 0 && !slices.Contains(request.GetSagas(), id) {
			continue
		}
		if err := yield(row); err != nil {
			return err
		}
	}
	return nil
}

// knows adds what the participant has answered: "1" for the action of step 1, "undo 1" for its compensation.
func (k *keeper) knows(saga, method string, verdict treatyv1.CommandVerdict, commands ...string) {
	for _, command := range commands {
		step, undo := strings.CutPrefix(command, "undo ")
		direction := treatyv1.StepDirection_STEP_DIRECTION_ACTION
		if undo {
			direction = treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
		}
		k.rows = append(k.rows, &treatyv1.KnownCommand{
			CommandId: wire.StepName(saga, step), Direction: direction, Method: method, Verdict: verdict,
		})
	}
}

const (
	executed = treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED
	rejected = treatyv1.CommandVerdict_COMMAND_VERDICT_REFUSED
	closed   = treatyv1.CommandVerdict_COMMAND_VERDICT_CLOSED
)

// restore opens a backup as a store that was restored, with a participant that keeps what became of commands.
func (w *fixture) restore(backup *journaltest.Memory, restored journal.Restored) *keeper {
	w.t.Helper()
	w.store = backup.Restore(restored)
	k := &keeper{participant: w.participant, states: []engine.ParticipantState{{
		Name: "bench.v1.WorkService", Described: true, Lists: true,
		KeptMethods: []string{cardv1.CardService_IssueCard_FullMethodName[1:], undo, action},
	}}}
	w.participants = k
	return k
}

func stepsOf(saga *treatyv1.Saga) string {
	var steps []string
	for _, step := range saga.GetSteps() {
		steps = append(steps, fmt.Sprintf("%s %s", wire.StepPath(step.GetName()),
			strings.TrimPrefix(step.GetState().String(), "STEP_STATE_")))
	}
	return strings.Join(steps, ", ")
}

// TestRestore takes a backup in the middle of sagas of three steps, lets them continue in different ways, and restores
// the backup. The participant's answer to a command that it knows is what it answered before.
func TestRestore(t *testing.T) {
	for _, test := range []struct {
		name   string
		known  func(k *keeper, id string) // besides step 1, which is in the backup
		state  treatyv1.SagaState
		steps  string
		reason string // of the suspension, in part
	}{
		{
			"nothing happened since", func(*keeper, string) {}, succeeded, "1 DONE, 2 DONE, 3 DONE", "",
		},
		{
			"it succeeded", func(k *keeper, id string) { k.knows(id, action, executed, "2", "3") },
			succeeded, "1 DONE, 2 DONE, 3 DONE", "",
		},
		{
			"it was compensated", func(k *keeper, id string) {
				k.knows(id, action, executed, "2")
				k.knows(id, undo, executed, "undo 2", "undo 1")
			}, compensated, "1 COMPENSATED, 2 COMPENSATED", "",
		},
		{
			"it was being compensated", func(k *keeper, id string) {
				k.knows(id, action, executed, "2")
				k.knows(id, undo, executed, "undo 2")
				k.answer("action 2", failed(treatyv1.Outcome_OUTCOME_REFUSED, codes.FailedPrecondition))
			}, compensated, "1 COMPENSATED, 2 REFUSED", "",
		},
		{
			"the step that the journal has was compensated", func(k *keeper, id string) {
				k.knows(id, action, executed, "2")
				k.knows(id, undo, executed, "undo 1")
			}, suspended, "1 DONE, 2 DONE", "step 1 (bench.v1.WorkService/Work) was compensated since the backup",
		},
		{
			"it was being compensated after it had failed", func(k *keeper, id string) {
				k.knows(id, action, executed, "2")
				k.knows(id, action, rejected, "3")
				k.knows(id, undo, executed, "undo 1")
				k.answer("action 3", failed(treatyv1.Outcome_OUTCOME_REFUSED, codes.FailedPrecondition))
			}, compensated, "1 COMPENSATED, 2 COMPENSATED, 3 REFUSED", "",
		},
		{
			"another saga has its id", func(k *keeper, id string) { k.knows(id, action, executed, "2", "3", "4") },
			suspended, "1 DONE, 2 DONE, 3 DONE", "the saga's code has ended, but participants have answered more",
		},
		{
			"a command that isn't sent again was refused", func(k *keeper, id string) {
				k.knows(id, action, executed, "2", "3")
				k.knows(id, action, rejected, "4")
			}, succeeded, "1 DONE, 2 DONE, 3 DONE", "",
		},
		{
			"a closed command never arrived", func(k *keeper, id string) { k.knows(id, action, closed, "4") },
			succeeded, "1 DONE, 2 DONE, 3 DONE", "",
		},
		{
			"the participant lost step 1", func(k *keeper, _ string) { k.rows = nil },
			suspended, "1 DONE, 2 SCHEDULED", "step 1 (bench.v1.WorkService/Work) is done, but the participant " +
				"doesn't know it",
		},
		{
			"the participant refused step 1", func(k *keeper, _ string) { k.rows[0].Verdict = rejected },
			suspended, "1 DONE, 2 SCHEDULED", "is done, but the participant has refused it",
		},
		{
			"a participant can't list", func(k *keeper, _ string) {
				k.states = append(k.states, engine.ParticipantState{Name: "plain.P", Described: true})
			}, suspended, "1 DONE, 2 SCHEDULED", "may have sent commands to plain.P",
		},
		{
			"a participant that can't list is trusted", func(k *keeper, _ string) {
				k.states = append(k.states, engine.ParticipantState{Name: "trusted.P", Described: true})
			}, succeeded, "1 DONE, 2 DONE, 3 DONE", "",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				w.participant.stall("action 2")
				handle := w.start(3)
				<-w.participant.held
				backup := w.store.(*journaltest.Memory).Copy()
				w.stop()
				w.participant.hold = make(map[string]chan struct{})
				w.participant.calls = nil

				k := w.restore(backup, journal.Restored{
					BackupTime: time.Now(), RestoreTime: time.Now(), Trusted: []string{"trusted.P"},
				})
				k.knows(handle.ID, action, executed, "1")
				test.known(k, handle.ID)
				w.open()
				pass(time.Minute)
				got := w.get(handle.ID)
				if got.GetState() != test.state || stepsOf(got) != test.steps ||
					!strings.Contains(got.GetSuspension().GetMessage(), test.reason) {
					t.Errorf("got %v: %s; %v", got.GetState(), stepsOf(got), got.GetSuspension())
				}
				want := treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED
				switch {
				case test.state != suspended:
					want = 0
				case strings.Contains(test.reason, "was compensated since"):
					want = treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE
				case strings.Contains(test.reason, "may have sent commands"):
					want = treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNLISTED
				}
				if reason := got.GetSuspension().GetReason(); reason != want {
					t.Errorf("suspended for %v, want %v", reason, want)
				}
				w.stop()
				w.store = w.store.(*journaltest.Memory).Reopen()
				if w.store.Identity().Restored != nil {
					t.Error("the store still has to be compared with its participants")
				}
			})
		})
	}
}

// TestRestoreOfWaitingSaga restores a backup with a saga that only waits for an event, so that it isn't in memory.
func TestRestoreOfWaitingSaga(t *testing.T) {
	for _, test := range []struct {
		name  string
		known func(k *keeper, id string)
		state treatyv1.SagaState
	}{
		{"nothing happened since", func(k *keeper, id string) { k.knows(id, action, executed, "1") },
			treatyv1.SagaState_SAGA_STATE_RUNNING},
		{"it was compensated", func(k *keeper, id string) {
			k.knows(id, action, executed, "1")
			k.knows(id, undo, executed, "undo 1")
		}, compensated},
		{"it went on", func(k *keeper, id string) { k.knows(id, action, executed, "1", "3") }, suspended},
		{"the participant lost step 1", func(*keeper, string) {}, suspended},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
					if err := saga.Call(ctx, benchv1.WorkService_Work_FullMethodName, new(benchv1.WorkRequest),
						new(benchv1.WorkDone)); err != nil {
						return nil, err
					}
					_, err := identityv1saga.AwaitApplicantVerified(ctx, "applicants/ada")
					return new(benchv1.RunDone), err
				})
				handle := w.start(1)
				pass(time.Minute)
				backup := w.store.(*journaltest.Memory).Copy()
				w.stop()
				k := w.restore(backup, journal.Restored{BackupTime: time.Now(), RestoreTime: time.Now()})
				test.known(k, handle.ID)
				w.open()
				pass(time.Minute)
				if got := w.get(handle.ID); got.GetState() != test.state {
					t.Errorf("got %v: %v", got.GetState(), got.GetSuspension())
				}
			})
		})
	}
}

// TestRestoreAfterTimeout restores a backup after the time of a wait for an event is over. The saga waits for a person.
// The event counts if it is stored when the person lets the saga continue.
func TestRestoreAfterTimeout(t *testing.T) {
	for _, published := range []bool{true, false} {
		t.Run(fmt.Sprint("published again: ", published), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
					_, err := identityv1saga.AwaitApplicantVerified(ctx, "applicants/ada", saga.Within(time.Hour))
					return new(benchv1.RunDone), err
				})
				handle := w.start(1)
				pass(time.Minute)
				taken, backup := time.Now(), w.store.(*journaltest.Memory).Copy()
				w.stop()
				// The subcommand restore ran before the time was over, and the orchestrator starts after it.
				w.restore(backup, journal.Restored{BackupTime: taken, RestoreTime: time.Now()})
				pass(2 * time.Hour)
				w.open()
				pass(time.Minute)
				if got := w.get(handle.ID); got.GetState() != suspended {
					t.Fatalf("it is %v", got)
				}
				want := compensated
				if published {
					w.publish(verified("applicants/ada"))
					want = succeeded
				}
				if err := w.engine.Resume(t.Context(), handle.ID,
					engine.ResumeParams{Action: machine.Retry}); err != nil {
					t.Fatal(err)
				}
				pass(time.Minute)
				if got := w.get(handle.ID); got.GetState() != want {
					t.Errorf("it ended as %v, want %v", got.GetState(), want)
				}
			})
		})
	}
}

// TestRestoreWaits restores a backup while a participant doesn't answer. No saga is driven, and nothing can be started,
// until it does.
func TestRestoreWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.stall("action 1")
		handle := w.start(1)
		<-w.participant.held
		backup := w.store.(*journaltest.Memory).Copy()
		w.stop()
		w.participant.hold = make(map[string]chan struct{})
		w.participant.calls = nil

		k := w.restore(backup, journal.Restored{BackupTime: time.Now(), RestoreTime: time.Now()})
		k.states[0].Described = false
		w.open()
		pass(time.Hour)
		if calls := w.participant.seen(); len(calls) > 0 {
			t.Errorf("commands were sent: %v", calls)
		}
		for name, call := range map[string]func() error{
			"start": func() error {
				_, err := w.engine.Start(t.Context(), engine.StartParams{Definition: definition, Request: request(t,
					1)})
				return err
			},
			"cancel":   func() error { return w.engine.Cancel(t.Context(), handle.ID, engine.CancelParams{}) },
			"complete": func() error { return w.complete(handle.ID, "1", engine.Action, nil) },
			"heartbeat": func() error {
				return w.engine.Heartbeat(t.Context(), handle.ID, "1", engine.Action)
			},
			"publish": func() error {
				_, err := w.engine.Publish(t.Context(), []*journal.Event{{Source: "s", ID: "1"}})
				return err
			},
		} {
			if err := call(); !errors.Is(err, engine.ErrRestoring) {
				t.Errorf("%s: got %v", name, err)
			}
		}
		k.mu.Lock()
		k.states[0].Described, k.listErr = true, errors.New("not now")
		k.mu.Unlock()
		pass(time.Hour)
		if calls := w.participant.seen(); len(calls) > 0 {
			t.Errorf("commands were sent before the participant had listed what it knows: %v", calls)
		}
		k.mu.Lock()
		k.listErr = nil
		k.mu.Unlock()
		if w.await(handle.ID) != succeeded {
			t.Error("it didn't succeed")
		}
	})
}

// TestCallsBeforeRecovery calls a restored and a replaced store before their sagas are recovered, as clients do while
// the server starts. A saga that was lost is still known as lost.
func TestCallsBeforeRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.stall("action 1")
		open := w.start(1)
		<-w.participant.held
		backup := w.store.(*journaltest.Memory).Copy()
		w.stop()
		w.participant.hold = make(map[string]chan struct{})
		lost := engine.StartParams{Definition: definition, SagaID: "lost", Request: request(t, 1)}

		k := w.restore(backup, journal.Restored{BackupTime: time.Now(), RestoreTime: time.Now()})
		k.knows(lost.SagaID, action, executed, "1")
		refuses := func(want error) func() {
			return func() {
				for name, call := range map[string]func() error{
					"start":  func() error { _, err := w.engine.Start(t.Context(), lost); return err },
					"cancel": func() error { return w.engine.Cancel(t.Context(), open.ID, engine.CancelParams{}) },
				} {
					if err := call(); !errors.Is(err, want) {
						t.Errorf("%s: got %v, want %v", name, err, want)
					}
				}
			}
		}
		w.beforeRecover = refuses(engine.ErrRestoring)
		w.open()
		pass(time.Minute)

		w.stop()
		w.store = w.store.(*journaltest.Memory).Reopen()
		w.participant.stall("action 1")
		w.beforeRecover = func() {
			if _, err := w.engine.Start(t.Context(), lost); err != nil {
				t.Error(err)
			}
			err := w.engine.Cancel(t.Context(), lost.SagaID, engine.CancelParams{})
			if !errors.Is(err, machine.ErrCatchingUp) {
				t.Errorf("canceling a lost saga that was started again: got %v", err)
			}
		}
		w.open()

		w.engine.Replaced("another store", 7)
		pass(time.Second)
		w.stop()
		w.store = w.store.(*journaltest.Memory).Reopen()
		w.beforeRecover = refuses(engine.ErrReplaced)
		w.open()
	})
}

// TestLostSaga restores a backup from before a saga's start. Started again with the same request id, it catches up.
func TestLostSaga(t *testing.T) {
	for _, test := range []struct {
		name  string
		known func(k *keeper, id string)
		want  treatyv1.SagaState
	}{
		{"it had succeeded", func(k *keeper, id string) { k.knows(id, action, executed, "1", "2") }, succeeded},
		{"it was in the middle", func(k *keeper, id string) { k.knows(id, action, executed, "1") }, succeeded},
		{"it had been compensated", func(k *keeper, id string) {
			k.knows(id, action, executed, "1")
			k.knows(id, undo, executed, "undo 1")
		}, compensated},
		{"it did more", func(k *keeper, id string) { k.knows(id, action, executed, "1", "2", "3") }, suspended},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				backup := w.store.(*journaltest.Memory).Copy()
				w.stop()
				id := engine.NewID(time.Now(), "", definition, "order-7")
				k := w.restore(backup, journal.Restored{BackupTime: time.Now(), RestoreTime: time.Now()})
				test.known(k, id)
				w.open()
				pass(time.Minute)
				lost, err := w.store.Lost(t.Context(), journal.LostParams{Limit: 10})
				if err != nil || len(lost) != 1 || lost[0].ID != id || len(lost[0].Commands) != len(k.rows) {
					t.Errorf("lost are %+v, %v", lost, err)
				}
				if test.want != compensated {
					if err := w.engine.CompensateChild(t.Context(), engine.StartParams{
						Definition: definition, SagaID: id, Request: request(t, 2),
					}); !errors.Is(err, engine.ErrLost) {
						t.Errorf("compensating it for another orchestrator: got %v", err)
					}
				}
				if start := lost[0].Commands[0].Start; !start.IsZero() {
					t.Errorf("the start of a command without one is %v", start)
				}
				w.crash() // it stays lost
				handle, err := w.engine.Start(t.Context(), engine.StartParams{
					Definition: definition, Request: request(t, 2), RequestID: "order-7",
				})
				if err != nil || handle.ID != id {
					t.Fatalf("got %v, %v", handle, err)
				}
				pass(time.Minute)
				if got := w.get(id); got.GetState() != test.want {
					t.Errorf("got %v: %s; %v", got.GetState(), stepsOf(got), got.GetSuspension())
				}
				if lost, err = w.store.Lost(t.Context(), journal.LostParams{Limit: 10}); err != nil || len(lost) > 0 {
					t.Errorf("still lost: %+v, %v", lost, err)
				}
			})
		})
	}
}

// TestForgetLost removes a lost saga from the list. Its parent can compensate it then.
func TestForgetLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		backup := w.store.(*journaltest.Memory).Copy()
		w.stop()
		id := engine.NewID(time.Now(), "", definition, "order-7")
		k := w.restore(backup, journal.Restored{BackupTime: time.Now(), RestoreTime: time.Now()})
		k.knows(id, action, executed, "1")
		k.states[0].Described = false
		w.open()
		decision := &treatyv1.Decision{Actor: "ada", Reason: "undone by hand"}
		if err := w.engine.ForgetLost(t.Context(), id, decision); !errors.Is(err, engine.ErrRestoring) {
			t.Errorf("before the participants have answered: %v", err)
		}
		k.mu.Lock()
		k.states[0].Described = true
		k.mu.Unlock()
		pass(time.Minute)
		if err := w.engine.ForgetLost(t.Context(), "another", decision); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("a saga that isn't lost: %v", err)
		}
		if err := w.engine.ForgetLost(t.Context(), id, decision); err != nil {
			t.Fatal(err)
		}
		if err := w.engine.ForgetLost(t.Context(), id, decision); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("again: %v", err)
		}
		if lost, err := w.store.Lost(t.Context(), journal.LostParams{Limit: 10}); err != nil || len(lost) > 0 {
			t.Errorf("still lost: %+v, %v", lost, err)
		}
		if err := w.engine.CompensateChild(t.Context(), engine.StartParams{
			Definition: definition, SagaID: id, Request: request(t, 2),
		}); err != nil {
			t.Errorf("compensating it: %v", err)
		}
	})
}

// TestForgetLostIsAtomic forgets a lost child of another orchestrator while the store fails. The child stays lost as
// long as it isn't recorded as compensated. Otherwise its parent's next compensation would list it again.
func TestForgetLostIsAtomic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		id := engine.ChildID(definition, "sagas/parent/steps/1")
		child := engine.StartParams{
			Definition: definition, SagaID: id, Request: request(t, 2), Executed: true,
			Parent: &treatyv1.Parent{
				CommandId: "sagas/parent/steps/1", Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
			},
		}
		if err := w.engine.CompensateChild(t.Context(), child); !errors.Is(err, engine.ErrLost) {
			t.Fatalf("compensating a child that isn't known: got %v", err)
		}
		memory, full := w.store.(*journaltest.Memory), true
		w.stop()
		w.store = &hooked{Store: memory, onAppend: func([]*journal.Entry) error {
			if full {
				return journal.ErrFull
			}
			return nil
		}}
		w.open()
		decision := &treatyv1.Decision{Actor: "ada", Reason: "undone by hand"}
		forget := func() error { return w.engine.ForgetLost(t.Context(), id, decision) }
		isLost := func(want int) {
			t.Helper()
			if lost, err := w.store.Lost(t.Context(), journal.LostParams{Limit: 10}); err != nil || len(lost) != want {
				t.Errorf("lost are %+v, %v; want %d", lost, err, want)
			}
		}
		forgotten := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() { forgotten <- w.engine.ForgetLost(ctx, id, decision) }()
		if err := <-forgotten; err == nil {
			t.Error("it was forgotten although the store is full")
		}
		isLost(1)
		w.stop()
		full = false
		w.open()
		isLost(1)
		if err := forget(); err != nil {
			t.Fatal(err)
		}
		isLost(0)
		if err := forget(); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("again: got %v", err)
		}
		if err := w.engine.CompensateChild(t.Context(), child); err != nil {
			t.Errorf("compensating it: %v", err)
		}
		isLost(0)
		stored, err := w.store.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		turn := new(treatyv1.Turn)
		if err := proto.Unmarshal(stored.Turns[0].Data, turn); err != nil {
			t.Fatal(err)
		}
		var decided *treatyv1.Decision
		for _, record := range turn.GetRecords() {
			if record.GetCompensationDecided() != nil {
				decided = record.GetCompensationDecided().GetDecision()
			}
		}
		if decided.GetActor() != "ada" || decided.GetReason() != "undone by hand" {
			t.Errorf("the journal says that %v decided", decided)
		}
	})
}

// TestRestoredEvent restores a saga whose event was lost.
func TestRestoredEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			if err := work(ctx, 1); err != nil {
				return nil, err
			}
			saga.Sleep(ctx, time.Hour)
			return &benchv1.RunDone{}, work(ctx, 2)
		})
		handle := w.start(1)
		synctest.Wait()
		backup := w.store.(*journaltest.Memory).Copy()
		w.stop()
		pass(2 * time.Hour)
		k := w.restore(backup, journal.Restored{BackupTime: time.Now().Add(-2 * time.Hour), RestoreTime: time.Now()})
		k.knows(handle.ID, action, executed, "1", "3")
		w.open()
		if w.await(handle.ID) != succeeded {
			t.Errorf("a saga that sleeps: %v", w.get(handle.ID))
		}
	})
}

// TestReplaced hears of another store. Nothing is driven any more, also after a restart.
func TestReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		stale := failed(treatyv1.Outcome_OUTCOME_CONFLICT, 10)
		stale.Halt = engine.HaltReplaced
		w.participant.answer("action 1", stale)
		handle := w.start(2)
		pass(time.Hour)
		check := func() {
			t.Helper()
			if err := w.engine.Condition(); !errors.Is(err, engine.ErrReplaced) {
				t.Errorf("the engine's condition is %v", err)
			}
			_, err := w.engine.Start(t.Context(), engine.StartParams{Definition: definition, Request: request(t, 1)})
			if !errors.Is(err, engine.ErrReplaced) {
				t.Errorf("a start: got %v", err)
			}
			if err := w.complete(handle.ID, "1", engine.Action, nil); !errors.Is(err, engine.ErrReplaced) {
				t.Errorf("a completion: got %v", err)
			}
			if got := w.get(handle.ID); got.GetState() != treatyv1.SagaState_SAGA_STATE_RUNNING {
				t.Errorf("the saga is %v", got.GetState())
			}
		}
		check()
		w.crash()
		pass(time.Hour)
		check()
		if diff := cmp.Diff([]string{"action 1#1"}, w.participant.seen()); diff != "" {
			t.Error(diff)
		}
		// An operator restores it.
		k := w.restore(w.store.(*journaltest.Memory).Copy(), journal.Restored{
			BackupTime: time.Now(), RestoreTime: time.Now(),
		})
		_ = k
		w.stop()
		w.open()
		if w.await(handle.ID) != succeeded {
			t.Error("it didn't succeed")
		}
	})
}

// TestLostChild compensates a child saga whose start was lost, for a parent in the same store.
func TestLostChild(t *testing.T) {
	for _, test := range []struct {
		name  string
		known func(k *keeper, id string)
		steps string
	}{
		{"it had succeeded", func(k *keeper, id string) { k.knows(id, action, executed, "1", "2") },
			"1 COMPENSATED, 2 COMPENSATED"},
		{"it had been compensated", func(k *keeper, id string) {
			k.knows(id, action, executed, "1")
			k.knows(id, undo, executed, "undo 1")
		}, ""},
		{"it was refused", func(k *keeper, id string) { k.knows(id, action, rejected, "1") }, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				backup := w.store.(*journaltest.Memory).Copy()
				w.stop()
				id := engine.NewID(time.Now(), "", definition, "order-7")
				k := w.restore(backup, journal.Restored{BackupTime: time.Now(), RestoreTime: time.Now()})
				test.known(k, id)
				w.open()
				pass(time.Minute)
				child := engine.StartParams{
					Definition: definition, SagaID: id, Request: request(t, 2),
					Parent: &treatyv1.Parent{
						CommandId: wire.StepName("parent", "1"), Local: true,
						Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
					},
				}
				for err := machine.ErrCatchingUp; errors.Is(err, machine.ErrCatchingUp); pass(time.Second) {
					if err = w.engine.CompensateChild(t.Context(), child); err != nil &&
						!errors.Is(err, machine.ErrCatchingUp) {
						t.Fatal(err)
					}
				}
				if got := w.get(id); got.GetState() != compensated || stepsOf(got) != test.steps {
					t.Errorf("got %v: %s; %v", got.GetState(), stepsOf(got), got.GetSuspension())
				}
				if lost, err := w.store.Lost(t.Context(), journal.LostParams{Limit: 10}); err != nil || len(lost) > 0 {
					t.Errorf("still lost: %+v, %v", lost, err)
				}
			})
		})
	}
}

// TestLostChildOfAnotherOrchestrator compensates a child whose reply its parent has, and whose start was lost. The
// parent is in another store, so the child isn't started again.
func TestLostChildOfAnotherOrchestrator(t *testing.T) {
	for _, test := range []struct {
		name  string
		known func(k *keeper, id string)
		err   error
	}{
		{"nobody knows it", func(*keeper, string) {}, engine.ErrLost},
		{"it had an effect", func(k *keeper, id string) { k.knows(id, action, executed, "1") }, engine.ErrLost},
		{"it had been compensated", func(k *keeper, id string) {
			k.knows(id, action, executed, "1")
			k.knows(id, undo, executed, "undo 1")
		}, nil},
		{"only a refusal is known", func(k *keeper, id string) { k.knows(id, action, rejected, "1") }, engine.ErrLost},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newFixture(t)
				backup := w.store.(*journaltest.Memory).Copy()
				w.stop()
				id := engine.NewID(time.Now(), "", definition, "order-7")
				k := w.restore(backup, journal.Restored{BackupTime: time.Now(), RestoreTime: time.Now()})
				test.known(k, id)
				w.open()
				pass(time.Minute)
				child := engine.StartParams{
					Definition: definition, SagaID: id, Request: request(t, 2), Executed: true,
					Parent: &treatyv1.Parent{
						CommandId: wire.StepName("parent", "1"), Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
					},
				}
				for range 2 {
					if err := w.engine.CompensateChild(t.Context(), child); !errors.Is(err, test.err) {
						t.Fatalf("got %v, want %v", err, test.err)
					}
				}
				if test.err != nil {
					if err := w.engine.ForgetLost(t.Context(), id, new(treatyv1.Decision)); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.engine.CompensateChild(t.Context(), child); err != nil {
					t.Fatal(err)
				}
				if got := w.get(id); got.GetState() != compensated || stepsOf(got) != "" {
					t.Errorf("got %v: %s", got.GetState(), stepsOf(got))
				}
				if lost, err := w.store.Lost(t.Context(), journal.LostParams{Limit: 10}); err != nil || len(lost) > 0 {
					t.Errorf("still lost: %+v, %v", lost, err)
				}
			})
		})
	}
}
