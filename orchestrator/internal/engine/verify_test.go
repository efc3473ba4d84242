package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

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
		findings, n, err := engine.Verify(t.Context(),
			engine.VerifyParams{Store: w.store, Catalog: w.catalog, Definitions: map[string]machine.Code{}})
		if err != nil || n != 1 || len(findings) != 0 {
			t.Errorf("no code: %+v, %d, %v", findings, n, err)
		}
		other := make(registrar)
		saga.Register(other, benchv1.WorkSagas_Run_FullMethodName,
			func(ctx saga.Context, in *benchv1.RunRequest) (*benchv1.RunDone, error) {
				saga.Sleep(ctx, time.Hour)
				return run(ctx, in)
			})
		findings, n, err = engine.Verify(t.Context(),
			engine.VerifyParams{Store: w.store, Catalog: w.catalog, Definitions: other})
		if err != nil || n != 1 || len(findings) != 0 {
			t.Errorf("other code: %+v, %d, %v", findings, n, err)
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
			findings, _, err := engine.Verify(t.Context(),
				engine.VerifyParams{Store: w.store, Catalog: w.catalog, Definitions: w.code})
			if err != nil {
				t.Fatal(err)
			}
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
