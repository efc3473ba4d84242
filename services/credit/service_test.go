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

// TestEveryCheckIsNew checks a person twice in a row. Whether the first check would have done isn't for the service to
// decide.
func TestEveryCheckIsNew(t *testing.T) {
	client := start(t)
	var limits []int64
	for i, income := range []int64{40_000_00, 20_000_00} {
		checked, err := client.CheckCredit(participanttest.Action(t.Context(), "s", i+1), &creditv1.CheckCreditRequest{
			NationalId: "ada-1815", YearlyIncomeCents: income, RequestedLimitCents: 1_000_00,
		})
		if err != nil {
			t.Fatal(err)
		}
		limits = append(limits, checked.GetApprovedLimitCents())
	}
	if diff := cmp.Diff([]int64{8_000_00, 4_000_00}, limits); diff != "" {
		t.Errorf("the limits (-want +got):\n%s", diff)
	}
}

// TestReuseCheck files a check for a second customer, removes that copy again, and leaves the first one as it was.
func TestReuseCheck(t *testing.T) {
	for _, test := range []struct {
		name  string
		reply func(*creditv1.CheckReused) *creditv1.CheckReused // what the compensation is told
	}{
		{"released", func(reused *creditv1.CheckReused) *creditv1.CheckReused { return reused }},
		{"released without its reply", func(*creditv1.CheckReused) *creditv1.CheckReused { return nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := start(t)
			get := func(name string) *creditv1.Check {
				t.Helper()
				check, err := client.GetCheck(t.Context(), &creditv1.GetCheckRequest{Name: name})
				if err != nil {
					t.Fatal(err)
				}
				return check
			}
			first, err := client.CheckCredit(participanttest.Action(t.Context(), "first", 3),
				&creditv1.CheckCreditRequest{
					NationalId: "ada-1815", Customer: "customers/first", YearlyIncomeCents: 40_000_00,
					RequestedLimitCents: 1_000_00,
				})
			if err != nil {
				t.Fatal(err)
			}
			request := &creditv1.ReuseCheckRequest{Check: first.GetCheck(), Customer: "customers/second"}
			var reused *creditv1.CheckReused
			for range 2 { // The second time, it is the same command.
				reused, err = client.ReuseCheck(participanttest.Action(t.Context(), "second", 4), request)
				if err != nil {
					t.Fatal(err)
				}
			}
			want := get(first.GetCheck())
			want.Name, want.Customer = reused.GetCheck(), "customers/second"
			if diff := cmp.Diff(want, get(reused.GetCheck()), protocmp.Transform()); diff != "" {
				t.Errorf("the copy (-want +got):\n%s", diff)
			}
			if _, err := client.ReleaseCheck(participanttest.Compensation(t.Context(), "second", 4),
				&creditv1.ReleaseCheckRequest{Action: request, Reply: test.reply(reused)}); err != nil {
				t.Fatal(err)
			}
			list, err := client.ListChecks(t.Context(), &creditv1.ListChecksRequest{})
			if err != nil || len(list.GetChecks()) != 1 || list.GetChecks()[0].GetName() != first.GetCheck() ||
				list.GetChecks()[0].GetState() != creditv1.CheckState_CHECK_STATE_PASSED {
				t.Errorf("on file are %v, %v; want only the first check, passed", list.GetChecks(), err)
			}
		})
	}
}

// TestLastCheck asks for a person's newest check. It goes by the time of the check, not by when it was filed.
func TestLastCheck(t *testing.T) {
	const ada, first, second = "ada-1815", "customers/first", "customers/second"
	store := open(t)
	now := time.Now()
	for _, check := range []*creditv1.Check{
		{Name: "checks/before", NationalId: ada, CheckTime: timestamppb.New(now.Add(-2 * time.Hour))},
		{Name: "checks/new", NationalId: ada, Customer: first, CheckTime: timestamppb.New(now.Add(-time.Hour))},
		{Name: "checks/reused", NationalId: ada, Customer: second, CheckTime: timestamppb.New(now.Add(-2 * time.Hour))},
		{Name: "checks/else", NationalId: "bob-1816", CheckTime: timestamppb.New(now)},
	} {
		check.ApprovedLimitCents = 1
		if _, err := inbox.Handle(t.Context(), store.Inbox, func(tx *inbox.Tx) (*creditv1.Check, error) {
			return check, store.add(t.Context(), tx, check)
		}); err != nil {
			t.Fatal(err)
		}
	}
	client := creditv1.NewCreditServiceClient(serveStore(t, store))
	for _, test := range []struct {
		request *creditv1.GetLastCheckRequest
		want    string
	}{
		{&creditv1.GetLastCheckRequest{NationalId: ada}, "checks/new"},
		{&creditv1.GetLastCheckRequest{NationalId: ada, ExceptCustomer: second}, "checks/new"},
		{&creditv1.GetLastCheckRequest{NationalId: ada, ExceptCustomer: first}, "checks/reused"},
		{&creditv1.GetLastCheckRequest{Customer: second}, "checks/reused"},
		{&creditv1.GetLastCheckRequest{Customer: second, ExceptCustomer: second}, ""},
		{&creditv1.GetLastCheckRequest{ExceptCustomer: first}, ""},
	} {
		last, err := client.GetLastCheck(t.Context(), test.request)
		if err != nil || last.GetCheck().GetName() != test.want {
			t.Errorf("%v: got %q, %v; want %q", test.request, last.GetCheck().GetName(), err, test.want)
		}
	}
}

func TestReuseRefusals(t *testing.T) {
	connection := serve(t)
	client, privacy := creditv1.NewCreditServiceClient(connection), privacyv1.NewUserDataServiceClient(connection)
	check := func(who string) string {
		t.Helper()
		checked, err := client.CheckCredit(t.Context(), &creditv1.CheckCreditRequest{
			NationalId: who + "-1815", Customer: "customers/" + who, YearlyIncomeCents: 40_000_00,
			RequestedLimitCents: 1_000_00,
		})
		if err != nil {
			t.Fatal(err)
		}
		return checked.GetCheck()
	}
	known, forgotten := check("known"), check("forgotten")
	if _, err := privacy.DeleteUserData(t.Context(),
		&privacyv1.DeleteUserDataRequest{Customer: "customers/forgotten"}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name            string
		check, customer string
		want            codes.Code
	}{
		{"a check that isn't on file", "checks/none", "customers/new", codes.NotFound},
		{"a check of a person who was forgotten", forgotten, "customers/new", codes.NotFound},
		{"for a customer who was forgotten", known, "customers/forgotten", codes.FailedPrecondition},
		{"for nobody", known, "", codes.InvalidArgument},
	} {
		if _, err := client.ReuseCheck(t.Context(),
			&creditv1.ReuseCheckRequest{Check: test.check, Customer: test.customer}); status.Code(err) != test.want {
			t.Errorf("%s: %v, want %s", test.name, err, test.want)
		}
	}
	if _, err := client.ReleaseCheck(t.Context(),
		&creditv1.ReleaseCheckRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("releasing nothing: %v, want INVALID_ARGUMENT", err)
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
