package engine_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// TestCompletedDuringRecovery completes a command of a saga just before it is recovered. The saga's other commands are
// sent again.
func TestCompletedDuringRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			err := saga.All(ctx,
				func(ctx saga.Context) error {
					if err := work(ctx, 1); err != nil {
						return err
					}
					return work(ctx, 2)
				},
				func(ctx saga.Context) error { return work(ctx, 3) })
			return &benchv1.RunDone{}, err
		})
		w.participant.answer("action 1.1.1", pending(time.Minute))
		w.participant.answer("action 1.2.1", pending(time.Minute))
		handle := w.start(1)
		synctest.Wait()
		w.stop()
		memory := w.store.(*journaltest.Memory).Reopen()
		var once sync.Once
		h := &hooked{Store: memory}
		w.store = h
		release := w.participant.stall("action 1.1.2")
		h.afterOpen = func() {
			once.Do(func() {
				// As a child that was recovered first does, or a participant.
				if err := w.engine.Complete(context.Background(),
					engine.Completion{Saga: handle.ID, Step: "1.1.1", Direction: engine.Action,
						Reply: []byte{}}); err != nil {
					t.Error(err)
				}
			})
		}
		w.open()
		synctest.Wait()
		release()
		pass(time.Hour)
		synctest.Wait()
		if got := w.get(handle.ID); got.GetState() != succeeded {
			t.Errorf("an hour later: %v; calls %v", got.GetState(), w.participant.seen())
		}
	})
}

// TestCrashAfterResume crashes between an operator's decision and the commands that follow from it, while a branch of
// the saga waits. The saga continues after the crash.
func TestCrashAfterResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			err := saga.All(ctx,
				func(ctx saga.Context) error {
					_, err := identityv1saga.AwaitApplicantVerified(ctx, "applicants/ada")
					return err
				},
				func(ctx saga.Context) error {
					if err := work(ctx, 1); err != nil {
						return err
					}
					if !mended.Load() {
						panic("a defect")
					}
					return work(ctx, 2)
				})
			return &benchv1.RunDone{}, err
		})
		handle := w.start(1)
		synctest.Wait()
		if got := w.get(handle.ID); got.GetState() != suspended {
			t.Fatal(got.GetState())
		}
		w.stop()
		memory := w.store.(*journaltest.Memory)
		h := &hooked{Store: memory}
		var dead atomic.Bool
		h.onAppend = func([]*journal.Entry) error {
			if dead.Swap(true) {
				return errors.New("dead")
			}
			return nil
		}
		w.store = h
		w.open()
		if err := w.engine.Resume(t.Context(), handle.ID,
			engine.ResumeParams{Action: machine.Retry,
				Decision: &treatyv1.Decision{Actor: "ann", Reason: "x"}}); err != nil {
			t.Fatal(err)
		}
		w.stop()
		mended.Store(true)
		w.store = memory.Reopen()
		w.open()
		pass(time.Hour)
		synctest.Wait()
		row, _ := w.store.Get(t.Context(), handle.ID)
		if n := w.engine.Recovered(); n != 1 {
			t.Errorf("%d sagas were found, want 1", n)
		}
		if seen := w.participant.seen(); len(seen) != 2 {
			t.Errorf("calls an hour after the restart: %v; state %v, waiting %v, due %v", seen, row.State, row.Waiting,
				row.Due)
		}
	})
}
