package server_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

func TestListLostSagas(t *testing.T) {
	a := newTestServer(t)
	start, found := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2026, 1, 3, 3, 4, 5, 0, time.UTC)
	a.store.lost = []journal.LostSaga{{ID: "a0", FoundTime: found, Commands: []journal.LostCommand{
		{
			CommandID: "sagas/a0/steps/1", Participant: "card", Method: "card.v1.Card/Issue", Digest: "ab",
			Verdict: int32(treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED),
		},
		{
			CommandID: "sagas/a0/steps/1", Participant: "card", Method: "card.v1.Card/Revoke", Compensation: true,
			Verdict: int32(treatyv1.CommandVerdict_COMMAND_VERDICT_NULL_COMPENSATED), Start: start,
		},
	}}}
	for i := range 9 {
		a.store.lost = append(a.store.lost, journal.LostSaga{ID: fmt.Sprintf("b%d", i), FoundTime: found})
	}
	child := engine.ChildID(issueCard, "sagas/p1/steps/4")
	a.store.lost = append(a.store.lost, journal.LostSaga{ID: child, FoundTime: found, Commands: []journal.LostCommand{{
		CommandID: "sagas/p1/steps/4", Participant: "mall/0", Method: issueCard, Digest: "cd",
		Verdict: int32(treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED),
	}}})
	var got []*treatyv1.LostSaga
	request := &treatyv1.ListLostSagasRequest{PageSize: 4}
	for {
		page, err := a.sagas.ListLostSagas(a.ctx(), request)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, page.GetLostSagas()...)
		if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
			break
		}
		if len(page.GetLostSagas()) != 4 {
			t.Errorf("a page of %d", len(page.GetLostSagas()))
		}
	}
	want := []*treatyv1.LostSaga{{
		Name: "sagas/a0", CreateTime: timestamppb.New(start), FindTime: timestamppb.New(found),
		Start: treatyv1.LostSagaStart_LOST_SAGA_START_SAGA_ID,
		Commands: []*treatyv1.LostCommand{
			{
				Name: "sagas/a0/steps/1", Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION,
				Method: "card.v1.Card/Issue", Participant: "card", Verdict: "executed", RequestDigest: "ab",
			},
			{
				Name: "sagas/a0/steps/1", Direction: treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION,
				Method: "card.v1.Card/Revoke", Participant: "card", Verdict: "null_compensated",
			},
		},
	}}
	for i := range 9 {
		want = append(want, &treatyv1.LostSaga{
			Name: fmt.Sprintf("sagas/b%d", i), FindTime: timestamppb.New(found),
			Start: treatyv1.LostSagaStart_LOST_SAGA_START_SAGA_ID,
		})
	}
	want = append(want, &treatyv1.LostSaga{
		Name: "sagas/" + child, FindTime: timestamppb.New(found), Definition: issueCard,
		ParentStep: "sagas/p1/steps/4", Start: treatyv1.LostSagaStart_LOST_SAGA_START_PARENT,
		Commands: []*treatyv1.LostCommand{{
			Name: "sagas/p1/steps/4", Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION, Method: issueCard,
			Participant: "mall/0", Verdict: "executed", RequestDigest: "cd",
		}},
	})
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, test := range []struct {
		request *treatyv1.ListLostSagasRequest
		field   string
	}{
		{&treatyv1.ListLostSagasRequest{PageSize: -1}, "page_size"},
		{&treatyv1.ListLostSagasRequest{PageToken: "nonsense"}, "page_token"},
	} {
		_, err := a.sagas.ListLostSagas(a.ctx(), test.request)
		if got := failureOf(t, err); got.code != codes.InvalidArgument || got.field != test.field {
			t.Errorf("%v: %+v", test.request, got)
		}
	}
	a.store.err = errors.New("secret")
	_, err := a.sagas.ListLostSagas(a.ctx(), &treatyv1.ListLostSagasRequest{})
	if got := failureOf(t, err); got.code != codes.Internal {
		t.Errorf("the store fails: %+v", got)
	}
}

func TestDeleteLostSaga(t *testing.T) {
	a := newTestServer(t)
	var id string
	var got *treatyv1.Decision
	a.engine.forget = func(saga string, decision *treatyv1.Decision) error { id, got = saga, decision; return nil }
	want := &treatyv1.Decision{Actor: "ada", Reason: "undone by hand", Principal: "local"}
	if _, err := a.sagas.DeleteLostSaga(
		a.ctx(), &treatyv1.DeleteLostSagaRequest{Name: "sagas/a1", Decision: want},
	); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || id != "a1" {
		t.Errorf("saga %q, decision (-want +got):\n%s", id, diff)
	}
	_, err := a.sagas.DeleteLostSaga(a.ctx(), &treatyv1.DeleteLostSagaRequest{
		Name: "sagas/a1", Decision: &treatyv1.Decision{Actor: "ada"},
	})
	if got := failureOf(t, err); got.field != "decision.reason" || got.code != codes.InvalidArgument {
		t.Errorf("without a reason: %+v", got)
	}
}
