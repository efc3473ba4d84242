package engine_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// TestOffersDecisions compares what a saga with a pivot offers with what its participant has done. A pivot that fails
// for ever is neither suspended nor cancellable.
func TestOffersDecisions(t *testing.T) {
	const (
		cancel   = treatyv1.DecisionKind_DECISION_KIND_CANCEL
		complete = treatyv1.DecisionKind_DECISION_KIND_COMPLETE
	)
	broken := failed(treatyv1.Outcome_OUTCOME_UNKNOWN, codes.Internal)
	for _, test := range []struct {
		name  string
		setUp func(*participant)
		want  []treatyv1.DecisionKind
	}{
		{"the first step fails", func(p *participant) {
			p.answer("action 1", slices.Repeat([]engine.Answer{broken}, 99)...)
		}, []treatyv1.DecisionKind{cancel, complete}},
		{"the pivot fails", func(p *participant) {
			p.answer("action 2", slices.Repeat([]engine.Answer{broken}, 99)...)
		}, []treatyv1.DecisionKind{complete}},
		{"the pivot was refused a connection", func(p *participant) {
			p.answer("action 2", slices.Repeat([]engine.Answer{notSent}, 99)...)
		}, []treatyv1.DecisionKind{cancel, complete}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := language(t, workThenPivot)
				test.setUp(w.participant)
				handle := w.start(1)
				pass(w.participant.delay)
				synctest.Wait()
				if diff := cmp.Diff(test.want, w.get(handle.ID).GetPossibleDecisions()); diff != "" {
					t.Errorf("it offers (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestMismatchNamesTheField changes a request between two runs of a saga's code.
func TestMismatchNamesTheField(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		payload := "one"
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			request := &benchv1.WorkRequest{Step: 1, Payload: []byte(payload)}
			err := saga.Call(ctx, benchv1.WorkService_Work_FullMethodName, request, new(benchv1.WorkDone))
			return &benchv1.RunDone{}, err
		})
		release := w.participant.stall("action 1")
		handle := w.start(1)
		<-w.participant.held
		payload = "another"
		w.crash()
		release()
		synctest.Wait()
		got := w.get(handle.ID).GetSuspension()
		if want := "step 1 " + action + " with another field payload"; got.GetFound() != want {
			t.Errorf("found %q, want %q", got.GetFound(), want)
		}
		for _, cause := range []string{"time.Now", "saga.Rand", "order of a map", "saga.Version"} {
			if !strings.Contains(got.GetMessage(), cause) {
				t.Errorf("the message doesn't name %s: %s", cause, got.GetMessage())
			}
		}
	})
}

// TestSuspendedChildIsNamed suspends a child saga, which its parent shows.
func TestSuspendedChildIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := language(t, func(ctx saga.Context, _ *benchv1.RunRequest) (*benchv1.RunDone, error) {
			_, err := identityv1saga.VerifyApplicant(ctx, &identityv1.VerifyApplicantRequest{})
			return &benchv1.RunDone{}, err
		})
		w.stop()
		const definition = "acme.identity.v1.IdentitySagas/VerifyApplicant"
		saga.Register(w.code, "/"+definition,
			func(saga.Context, *identityv1.VerifyApplicantRequest) (*identityv1.ApplicantConfirmed, error) {
				panic("no")
			})
		w.open()
		release := w.participant.stall("action 1")
		defer release()
		handle := w.start(1)
		<-w.participant.held
		step := wire.StepName(handle.ID, "1")
		child := engine.ChildID(definition, step)
		if _, err := w.engine.Start(t.Context(), engine.StartParams{
			Definition: definition, SagaID: child, Parent: &treatyv1.Parent{CommandId: step, Local: true},
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.get(handle.ID).GetSteps()[0].GetChildSuspension(); got !=
			treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC {
			t.Errorf("the child is suspended for %s", got)
		}
		if err := w.engine.Cancel(t.Context(), child, byAnn); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.get(handle.ID).GetSteps()[0].GetChildSuspension(); got != 0 {
			t.Errorf("after it was cancelled, the child is suspended for %s", got)
		}
	})
}
