package server_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

// TestNotDriven reads sagas while the orchestrator drives none.
func TestNotDriven(t *testing.T) {
	for _, test := range []struct {
		condition error
		reason    treatyv1.ErrorReason
		advice    string // in part
	}{
		{nil, 0, ""},
		{fmt.Errorf("%w: the participant p knows a later epoch", engine.ErrReplaced),
			treatyv1.ErrorReason_ERROR_REASON_STORE_REPLACED, "restore with --since"},
		{engine.ErrEpochAhead, treatyv1.ErrorReason_ERROR_REASON_EPOCH_AHEAD, "--epoch-from-clock"},
		{fmt.Errorf("%w: p is down", engine.ErrRestoring), treatyv1.ErrorReason_ERROR_REASON_RESTORING, "--trust"},
	} {
		t.Run(fmt.Sprint(test.condition), func(t *testing.T) {
			a := newTestServer(t)
			a.engine.condition = test.condition
			a.engine.get = func(id string) (*treatyv1.Saga, error) {
				saga := &treatyv1.Saga{Name: "sagas/" + id}
				if id == "ended" {
					saga.EndTime = timestamppb.Now()
				}
				return saga, nil
			}
			is := func(where string, got *treatyv1.NotDriven) {
				t.Helper()
				if test.condition == nil {
					if got != nil {
						t.Errorf("%s: got %v", where, got)
					}
					return
				}
				if got.GetReason() != test.reason || got.GetMessage() != test.condition.Error() ||
					!strings.Contains(got.GetAdvice(), test.advice) {
					t.Errorf("%s: got %v", where, got)
				}
			}
			saga, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: "sagas/a1"})
			if err != nil {
				t.Fatal(err)
			}
			is("get", saga.GetNotDriven())
			list, err := a.sagas.ListSagas(a.ctx(), &treatyv1.ListSagasRequest{})
			if err != nil {
				t.Fatal(err)
			}
			is("list", list.GetNotDriven())
			stream, err := a.sagas.WatchSaga(a.ctx(), &treatyv1.WatchSagaRequest{Name: "sagas/a1"})
			if err != nil {
				t.Fatal(err)
			}
			seen, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			is("watch", seen.GetSaga().GetNotDriven())
			ended, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: "sagas/ended"})
			if err != nil || ended.GetNotDriven() != nil {
				t.Errorf("a saga that has ended: got %v, %v", ended, err)
			}
		})
	}
}
