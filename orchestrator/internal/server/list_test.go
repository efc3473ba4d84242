package server_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

func TestEveryPageOfAThousandSagas(t *testing.T) {
	a := newTestServer(t)
	began := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	for i := range 1000 {
		at := began.Add(time.Duration(i/7) * time.Microsecond) // many at the same time
		a.store.rows = append(a.store.rows, &journal.Row{
			ID: fmt.Sprintf("s%04d", (i*7919)%1000), Definition: changeAddress,
			State:      treatyv1.SagaState_SAGA_STATE_RUNNING,
			CreateTime: at, UpdateTime: began.Add(-time.Duration(i/5) * time.Second),
		})
	}
	for _, order := range []string{"", "create_time", "create_time desc", "update_time", "update_time desc"} {
		t.Run(order, func(t *testing.T) {
			seen := make(map[string]bool)
			request := &treatyv1.ListSagasRequest{PageSize: 37, OrderBy: order}
			for {
				page, err := a.sagas.ListSagas(a.ctx(), request)
				if err != nil {
					t.Fatal(err)
				}
				for _, saga := range page.GetSagas() {
					if seen[saga.GetName()] {
						t.Errorf("%s comes twice", saga.GetName())
					}
					seen[saga.GetName()] = true
				}
				if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
					break
				}
				if len(page.GetSagas()) != 37 {
					t.Errorf("a page of %d", len(page.GetSagas()))
				}
			}
			if len(seen) != 1000 {
				t.Errorf("%d sagas", len(seen))
			}
		})
	}
}

func TestListedSaga(t *testing.T) {
	a := newTestServer(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a.store.rows = []*journal.Row{{
		ID: "a1", Definition: changeAddress, State: treatyv1.SagaState_SAGA_STATE_SUSPENDED,
		Suspension: treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED, Labels: map[string]string{"a": "b"},
		CreateTime: at, UpdateTime: at.Add(time.Second),
	}, {
		ID: "a2", Definition: changeAddress, State: treatyv1.SagaState_SAGA_STATE_SUCCEEDED,
		CreateTime: at.Add(-time.Hour), UpdateTime: at, EndTime: at,
	}}
	got, err := a.sagas.ListSagas(a.ctx(), &treatyv1.ListSagasRequest{Filter: `suspension_reason != "PANIC"`})
	if err != nil {
		t.Fatal(err)
	}
	want := []*treatyv1.Saga{{
		Name: "sagas/a1", Definition: changeAddress, State: treatyv1.SagaState_SAGA_STATE_SUSPENDED,
		Suspension: &treatyv1.SagaSuspended{Reason: treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED},
		Labels:     map[string]string{"a": "b"},
		CreateTime: timestamppb.New(at), UpdateTime: timestamppb.New(at.Add(time.Second)),
	}, {
		Name: "sagas/a2", Definition: changeAddress, State: treatyv1.SagaState_SAGA_STATE_SUCCEEDED,
		CreateTime: timestamppb.New(at.Add(-time.Hour)), UpdateTime: timestamppb.New(at), EndTime: timestamppb.New(at),
	}}
	if diff := cmp.Diff(want, got.GetSagas(), protocmp.Transform()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	filter := &journal.Filter{Op: journal.NotEqual, Field: journal.FieldSuspension, Text: "PANIC"}
	if diff := cmp.Diff(filter, a.store.listed.Filter); diff != "" {
		t.Errorf("filter (-want +got):\n%s", diff)
	}
}

func TestPageSizes(t *testing.T) {
	a := newTestServer(t)
	for asked, want := range map[int32]int{0: 51, 1: 2, 1000: 1001, 5000: 1001} {
		if _, err := a.sagas.ListSagas(a.ctx(), &treatyv1.ListSagasRequest{PageSize: asked}); err != nil {
			t.Fatal(err)
		}
		if a.store.listed.Limit != want {
			t.Errorf("page size %d: the store is asked for %d, want %d", asked, a.store.listed.Limit, want)
		}
	}
}

func TestListSagasRefuses(t *testing.T) {
	a := newTestServer(t)
	a.store.rows = []*journal.Row{{ID: "a1"}, {ID: "a2"}}
	first, err := a.sagas.ListSagas(a.ctx(), &treatyv1.ListSagasRequest{PageSize: 1, Filter: `state = "RUNNING"`})
	if err != nil || first.GetNextPageToken() == "" {
		t.Fatal(first, err)
	}
	for name, test := range map[string]struct {
		request *treatyv1.ListSagasRequest
		field   string
	}{
		"page size":       {&treatyv1.ListSagasRequest{PageSize: -1}, "page_size"},
		"token":           {&treatyv1.ListSagasRequest{PageToken: "nonsense"}, "page_token"},
		"another's token": {&treatyv1.ListSagasRequest{PageToken: first.GetNextPageToken()}, "page_token"},
		"changed token": {
			&treatyv1.ListSagasRequest{PageToken: first.GetNextPageToken() + "AAAA", Filter: `state = "RUNNING"`},
			"page_token",
		},
		"filter":     {&treatyv1.ListSagasRequest{Filter: "state ="}, "filter"},
		"order":      {&treatyv1.ListSagasRequest{OrderBy: "name"}, "order_by"},
		"two orders": {&treatyv1.ListSagasRequest{OrderBy: "create_time, update_time"}, "order_by"},
		"no order":   {&treatyv1.ListSagasRequest{OrderBy: "create_time up"}, "order_by"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.sagas.ListSagas(a.ctx(), test.request)
			want := failure{
				code:   codes.InvalidArgument,
				reason: treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST,
				field:  test.field,
			}
			if got := failureOf(t, err); got != want {
				t.Errorf("%+v, want %+v (%v)", got, want, err)
			}
		})
	}
}

func TestRecords(t *testing.T) {
	a := newTestServer(t)
	const changed, restored = "acme.customer.v1.CustomerService/CreateCustomer",
		"acme.customer.v1.CustomerService/RemoveCustomer"
	customer := &customerv1.CreateCustomerRequest{
		DisplayName: "Ada Byron",
		Email:       "ada@example.com",
		Address:     &customerv1.Address{City: "Springfield", Country: "Freedonia"},
	}
	record := func(r *treatyv1.Record) *treatyv1.Turn { return &treatyv1.Turn{Records: []*treatyv1.Record{r}} }
	a.store.turns = []*treatyv1.Turn{
		{Records: []*treatyv1.Record{
			{
				Kind: &treatyv1.Record_SagaStarted{
					SagaStarted: &treatyv1.SagaStarted{Definition: issueCard, Request: marshal(t, application())},
				},
			},
			{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{
				Step: "1", Method: changed, Request: marshal(t, customer),
				Compensation: &treatyv1.CompensationPlan{Method: restored},
			}}},
		}},
		record(
			&treatyv1.Record{
				Kind: &treatyv1.Record_StepDone{
					StepDone: &treatyv1.StepDone{
						Step: "1", Reply: marshal(t, &customerv1.CustomerCreated{Customer: "customers/ada"}),
					},
				},
			},
		),
		record(
			&treatyv1.Record{
				Kind: &treatyv1.Record_StepScheduled{
					StepScheduled: &treatyv1.StepScheduled{
						Step: "2", Method: "acme.gone.v1.Gone/Do", Request: []byte("secret"),
					},
				},
			},
		),
		record(&treatyv1.Record{Kind: &treatyv1.Record_StepRefused{StepRefused: &treatyv1.StepRefused{Step: "2"}}}),
		record(&treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{
			CompensationScheduled: &treatyv1.CompensationScheduled{
				Step: "1", EditedRequest: marshal(t, &customerv1.RemoveCustomerRequest{Action: customer}),
			},
		}}),
		record(
			&treatyv1.Record{
				Kind: &treatyv1.Record_CompensationDone{CompensationDone: &treatyv1.CompensationDone{Step: "1"}},
			},
		),
		record(&treatyv1.Record{Kind: &treatyv1.Record_SagaCompensated{SagaCompensated: &treatyv1.SagaCompensated{}}}),
	}
	for size := range int32(5) {
		t.Run(fmt.Sprintf("pages of %d", size), func(t *testing.T) {
			var names []string
			request := &treatyv1.ListSagaRecordsRequest{Parent: "sagas/a1", PageSize: size}
			for {
				page, err := a.sagas.ListSagaRecords(a.ctx(), request)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range page.GetRecords() {
					names = append(names, strings.TrimPrefix(r.GetName(), "sagas/a1/records/"))
				}
				for _, secret := range []string{"Ada Byron", "P1234567", "ada@example.com", "Springfield", "secret"} {
					if strings.Contains(string(marshal(t, page)), secret) {
						t.Errorf("%q is shown in %v", secret, page)
					}
				}
				if !strings.Contains(string(marshal(t, page)), "Freedonia") && len(names) == 2 {
					t.Errorf("what may be shown isn't: %v", page)
				}
				if request.PageToken = page.GetNextPageToken(); request.GetPageToken() == "" {
					break
				}
			}
			if got, want := strings.Join(names, " "), "1-1 1-2 2-1 3-1 4-1 5-1 6-1 7-1"; got != want {
				t.Errorf("records %s, want %s", got, want)
			}
		})
	}
	page, err := a.sagas.ListSagaRecords(a.ctx(), &treatyv1.ListSagaRecordsRequest{Parent: "sagas/a1", PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.sagas.ListSagaRecords(
		a.ctx(), &treatyv1.ListSagaRecordsRequest{Parent: "sagas/a2", PageToken: page.GetNextPageToken()},
	)
	if got := failureOf(t, err).field; got != "page_token" {
		t.Errorf("another saga's token: field %q (%v)", got, err)
	}
}

// The payloads of restarts, waits and progress are redacted, also when the journal begins with a later round.
func TestRecordsOfLaterRoundAreRedacted(t *testing.T) {
	a := newTestServer(t)
	verified := &identityv1.ApplicantVerified{Applicant: "applicants/1", RegisterReference: "R-1"}
	a.store.turns = []*treatyv1.Turn{{Records: []*treatyv1.Record{
		{Kind: &treatyv1.Record_SagaRestarted{SagaRestarted: &treatyv1.SagaRestarted{
			Started: &treatyv1.SagaStarted{
				Definition: issueCard, Request: marshal(t, application()),
			}, Round: 2, Progress: pack(t, application()), FirstRequest: marshal(t, application()),
		}}},
		{Kind: &treatyv1.Record_WaitScheduled{WaitScheduled: &treatyv1.WaitScheduled{Wait: "r2.1",
			Events: []*treatyv1.EventKey{
				{Type: "acme.gone.v1.Gone", Subject: "1"}, {
					Type: "acme.identity.v1.ApplicantVerified", Subject: "applicants/1",
				},
			}}}},
		{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{Wait: "r2.1",
			How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{
				Index: 1, Data: marshal(t, verified),
			}}}}},
		{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{Wait: "r2.1",
			How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{
				Index: 0, Data: []byte("secret"),
			}}}}},
		{Kind: &treatyv1.Record_WaitEnded{WaitEnded: &treatyv1.WaitEnded{Wait: "r2.9",
			How: &treatyv1.WaitEnded_Event{Event: &treatyv1.EventArrived{
				Index: -1, Data: []byte("secret"),
			}}}}},
		{Kind: &treatyv1.Record_ProgressSet{ProgressSet: &treatyv1.ProgressSet{Progress: pack(t, application())}}},
		{
			Kind: &treatyv1.Record_ProgressSet{
				ProgressSet: &treatyv1.ProgressSet{
					Progress: &anypb.Any{TypeUrl: "x/acme.gone.v1.Gone", Value: []byte("secret")},
				},
			},
		},
	}}}
	page, err := a.sagas.ListSagaRecords(a.ctx(), &treatyv1.ListSagaRecordsRequest{Parent: "sagas/a1"})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(page.GetRecords()); n != 7 {
		t.Fatalf("%d records", n)
	}
	all := string(marshal(t, page))
	for _, secret := range []string{"Ada Byron", "P1234567", "secret"} {
		if strings.Contains(all, secret) {
			t.Errorf("%q is shown in %v", secret, page)
		}
	}
	records := page.GetRecords()
	if !strings.Contains(string(records[0].GetRecord().GetSagaRestarted().GetStarted().GetRequest()), "gold") {
		t.Errorf("the new round's request isn't shown: %v", records[0])
	}
	if !bytes.Contains(records[0].GetRecord().GetSagaRestarted().GetProgress().GetValue(), []byte("gold")) ||
		!bytes.Contains(records[5].GetRecord().GetProgressSet().GetProgress().GetValue(), []byte("gold")) {
		t.Errorf("progress isn't shown: %v", page)
	}
	shown := new(identityv1.ApplicantVerified)
	if err := proto.Unmarshal(records[2].GetRecord().GetWaitEnded().GetEvent().GetData(), shown); err != nil ||
		!proto.Equal(shown, verified) {
		t.Errorf("event %v (%v), want %v", shown, err, verified)
	}
}

// TestListedDamage lists sagas of which a part can't be read. The log has the cause of a damaged row once.
func TestListedDamage(t *testing.T) {
	a := newTestServer(t)
	running, succeeded := treatyv1.SagaState_SAGA_STATE_RUNNING, treatyv1.SagaState_SAGA_STATE_SUCCEEDED
	broken := fmt.Errorf("%w: bad labels", journal.ErrCorrupt)
	a.store.rows = []*journal.Row{
		{ID: "fine", State: running}, {ID: "journal", State: running}, {ID: "ended", State: succeeded},
		{ID: "row", State: running, Err: broken},
	}
	a.engine.damage = map[string]error{"journal": broken, "ended": broken}
	for range 2 {
		got, err := a.sagas.ListSagas(a.ctx(), &treatyv1.ListSagasRequest{})
		if err != nil || len(got.GetSagas()) != 4 {
			t.Fatal(got, err)
		}
		for _, saga := range got.GetSagas() {
			want := map[string]string{"sagas/journal": "the saga's journal", "sagas/row": "what the store lists"}
			prefix, damaged := want[saga.GetName()]
			if (saga.GetDamage() != "") != damaged || !strings.HasPrefix(saga.GetDamage(), prefix) {
				t.Errorf("%s: %q", saga.GetName(), saga.GetDamage())
			}
			if strings.Contains(saga.GetDamage(), "bad labels") {
				t.Errorf("%s shows what only the log may: %q", saga.GetName(), saga.GetDamage())
			}
		}
	}
}
