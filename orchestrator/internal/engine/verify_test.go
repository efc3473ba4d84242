package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// verify verifies the open sagas against other code, and returns how many there are and what was reported.
func (w *fixture) verify(code registrar) (verified int, reported []*treatyv1.SagaSuspended) {
	w.t.Helper()
	verified, err := engine.Verify(w.t.Context(), engine.VerifyParams{
		Store: w.store, Catalog: w.catalog, Definitions: code,
		Report: func(_ *journal.Row, wrong *treatyv1.SagaSuspended) { reported = append(reported, wrong) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return verified, reported
}

// TestVerifyOfAStuckCompensation verifies a saga that is suspended while it compensates. It needs no code.
func TestVerifyOfAStuckCompensation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFixture(t)
		w.participant.answer("action 2", refused)
		w.participant.answer("compensation 1", refused)
		handle := w.start(2)
		synctest.Wait()
		if got := w.get(handle.ID); got.GetState() != suspended {
			t.Fatal(got.GetState())
		}
		if n, findings := w.verify(nil); n != 1 || len(findings) != 0 {
			t.Errorf("no code: %v, %d", findings, n)
		}
		other := make(registrar)
		saga.Register(other, benchv1.WorkSagas_Run_FullMethodName,
			func(ctx saga.Context, in *benchv1.RunRequest) (*benchv1.RunDone, error) {
				saga.Sleep(ctx, time.Hour)
				return run(ctx, in)
			})
		if n, findings := w.verify(other); n != 1 || len(findings) != 0 {
			t.Errorf("other code: %v, %d", findings, n)
		}
	})
}

// TestVerifyLooksOneStepAhead finds code that suspends the saga as soon as it is woken, and code that still breaks the
// rule for which the saga is suspended.
func TestVerifyLooksOneStepAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := func(ctx saga.Context) error {
			return saga.Call(ctx, "/no.such.v1.Service/Method", &benchv1.WorkRequest{}, new(benchv1.WorkDone))
		}
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			return &benchv1.RunDone{}, saga.All(ctx,
				func(ctx saga.Context) error { saga.Sleep(ctx, time.Hour); return work(ctx, 1) })
		})
		handle := w.start(1)
		synctest.Wait()
		w.stop()
		saga.Register(w.code, benchv1.WorkSagas_Run_FullMethodName,
			func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
				return &benchv1.RunDone{}, saga.All(ctx,
					func(ctx saga.Context) error { saga.Sleep(ctx, time.Hour); return work(ctx, 1) }, broken)
			})
		verify := func() int {
			_, findings := w.verify(w.code)
			return len(findings)
		}
		before := verify()
		w.open()
		pass(2 * time.Hour)
		synctest.Wait()
		if got := w.get(handle.ID); before == 0 && got.GetState() == suspended {
			t.Errorf("the gate found nothing; then: %v %v", got.GetSuspension().GetReason(),
				got.GetSuspension().GetMessage())
		}
		if verify() == 0 {
			t.Error("the gate finds nothing about a suspended saga whose code still breaks a rule")
		}
	})
}
