package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/participant/participanttest"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

func start(t *testing.T) creditv1.CreditServiceClient {
	t.Helper()
	return creditv1.NewCreditServiceClient(serve(t))
}

func serve(t *testing.T) *grpc.ClientConn {
	t.Helper()
	return serveStore(t, open(t))
}

func open(t *testing.T) *store {
	t.Helper()
	params := sqlitedb.Params{Path: filepath.Join(t.TempDir(), "credit.db"), Migrations: migrations}
	opened, err := sqlitedb.OpenStore(t.Context(), params, inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	store := &store{opened}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func serveStore(t *testing.T, store *store) *grpc.ClientConn {
	t.Helper()
	return participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		service := &service{store: store}
		creditv1.RegisterCreditServiceServer(r, service)
		privacyv1.RegisterUserDataServiceServer(r, service)
	})
}

func TestCheckIsRemembered(t *testing.T) {
	client := start(t)
	who := &creditv1.GetLastCheckRequest{NationalId: "1234-5678"}
	never, err := client.GetLastCheck(t.Context(), who)
	if err != nil || never.GetCheck() != nil {
		t.Fatalf("before any check: %v, %v", never, err)
	}
	request := &creditv1.CheckCreditRequest{
		NationalId: "1234-5678", YearlyIncomeCents: 40_000_00, RequestedLimitCents: 2_000_00,
	}
	checked, err := client.CheckCredit(participanttest.Action(t.Context(), "s", 3), request)
	if err != nil {
		t.Fatal(err)
	}
	want := &creditv1.Check{
		Name: checked.GetCheck(), State: creditv1.CheckState_CHECK_STATE_PASSED, NationalId: "1234-5678",
		ApprovedLimitCents: 8_000_00, CheckTime: checked.GetCheckTime(),
	}
	last, err := client.GetLastCheck(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, last.GetCheck(), protocmp.Transform()); diff != "" {
		t.Errorf("the last check (-want +got):\n%s", diff)
	}
	// An abandoned check still took place.
	for _, reply := range []*creditv1.CreditChecked{nil, checked} {
		if _, err := client.AbandonCheck(participanttest.Compensation(t.Context(), "s", 3),
			&creditv1.AbandonCheckRequest{Action: request, Reply: reply}); err != nil {
			t.Fatal(err)
		}
	}
	want.State = creditv1.CheckState_CHECK_STATE_ABANDONED
	last, err = client.GetLastCheck(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, last.GetCheck(), protocmp.Transform()); diff != "" {
		t.Errorf("the abandoned check (-want +got):\n%s", diff)
	}
	list, err := client.ListChecks(t.Context(), &creditv1.ListChecksRequest{})
	if err != nil || len(list.GetChecks()) != 1 {
		t.Errorf("checks: %v, %v; want one", list, err)
	}
	if _, err := client.GetCheck(t.Context(),
		&creditv1.GetCheckRequest{Name: "checks/none"}); status.Code(err) != codes.NotFound {
		t.Errorf("a check that doesn't exist: %v, want NOT_FOUND", err)
	}
}

// TestCheckHoldsForADay checks a person who has an earlier check, with another limit than their income would now allow.
func TestCheckHoldsForADay(t *testing.T) {
	const asked, said, now = 1_000_00, 3_000_00, 8_000_00
	for _, test := range []struct {
		name    string
		ago     time.Duration
		earlier *creditv1.Check
		want    int64
	}{
		{"checked today", 23 * time.Hour, &creditv1.Check{NationalId: "ada-1815", ApprovedLimitCents: said}, said},
		{"checked yesterday", 25 * time.Hour, &creditv1.Check{NationalId: "ada-1815", ApprovedLimitCents: said}, now},
		{"checked today for less", time.Hour, &creditv1.Check{NationalId: "ada-1815", ApprovedLimitCents: asked - 1},
			now},
		{"somebody else was checked", time.Hour, &creditv1.Check{NationalId: "bob-1816", ApprovedLimitCents: said},
			now},
	} {
		t.Run(test.name, func(t *testing.T) {
			store := open(t)
			test.earlier.Name, test.earlier.CheckTime = "checks/earlier",
				timestamppb.New(time.Now().Add(-test.ago).Truncate(time.Microsecond))
			if _, err := inbox.Handle(t.Context(), store.Inbox, func(tx *inbox.Tx) (*creditv1.Check, error) {
				return test.earlier, store.add(t.Context(), tx, test.earlier)
			}); err != nil {
				t.Fatal(err)
			}
			client := creditv1.NewCreditServiceClient(serveStore(t, store))
			checked, err := client.CheckCredit(participanttest.Action(t.Context(), "s", 3),
				&creditv1.CheckCreditRequest{
					NationalId: "ada-1815", Customer: "customers/ada", YearlyIncomeCents: 40_000_00,
					RequestedLimitCents: asked,
				})
			if err != nil {
				t.Fatal(err)
			}
			reused := checked.GetCheckTime().AsTime().Equal(test.earlier.GetCheckTime().AsTime())
			if checked.GetApprovedLimitCents() != test.want || reused != (test.want == said) {
				t.Errorf("got %v, want a limit of %d, and the time of the earlier check only with its limit", checked,
					test.want)
			}
			check, err := client.GetCheck(t.Context(), &creditv1.GetCheckRequest{Name: checked.GetCheck()})
			if err != nil || check.GetCustomer() != "customers/ada" || check.GetName() == "checks/earlier" {
				t.Errorf("on file is %v, %v; want a separate check for the customer", check, err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	client := start(t)
	for _, test := range []struct {
		name     string
		request  *creditv1.CheckCreditRequest
		code     codes.Code
		rejected []any
	}{
		{
			"too much", &creditv1.CheckCreditRequest{NationalId: "1234-5678", YearlyIncomeCents: 10_000_00,
				RequestedLimitCents: 2_000_01},
			codes.FailedPrecondition, []any{&creditv1.CreditDeclined{RequestedLimitCents: 2_000_01,
				ApprovedLimitCents: 2_000_00}},
		},
		{
			"above the maximum", &creditv1.CheckCreditRequest{NationalId: "1234-5678", YearlyIncomeCents: 1_000_000_00,
				RequestedLimitCents: 50_000_01},
			codes.FailedPrecondition, []any{&creditv1.CreditDeclined{RequestedLimitCents: 50_000_01,
				ApprovedLimitCents: 50_000_00}},
		},
		{"no person", &creditv1.CheckCreditRequest{YearlyIncomeCents: 1, RequestedLimitCents: 1}, codes.InvalidArgument,
			nil},
		{"no limit", &creditv1.CheckCreditRequest{NationalId: "1234-5678", YearlyIncomeCents: 1}, codes.InvalidArgument,
			nil},
		{"negative income", &creditv1.CheckCreditRequest{NationalId: "1234-5678", YearlyIncomeCents: -1,
			RequestedLimitCents: 1}, codes.InvalidArgument, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := client.CheckCredit(t.Context(), test.request)
			s := status.Convert(err)
			if s.Code() != test.code {
				t.Errorf("got %v, want %v", err, test.code)
			}
			if diff := cmp.Diff(test.rejected, s.Details(), protocmp.Transform(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("rejection (-want +got):\n%s", diff)
			}
		})
	}
}
