package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// TestDeleteUserData removes a person from three checks, one from before they were a customer, and leaves another
// person's check unchanged.
func TestDeleteUserData(t *testing.T) {
	connection := serve(t)
	checks, privacy := creditv1.NewCreditServiceClient(connection), privacyv1.NewUserDataServiceClient(connection)
	for _, who := range []struct{ nationalID, customer string }{{"ada-1815", ""}, {"ada-1815", "customers/ada"},
		{"ada-1815", ""}, {"bob-1816", "customers/bob"}, {"eve-1817", ""}} {
		if _, err := checks.CheckCredit(t.Context(), &creditv1.CheckCreditRequest{
			NationalId: who.nationalID, Customer: who.customer, YearlyIncomeCents: 40_000_00,
			RequestedLimitCents: 2_000_00,
		}); err != nil {
			t.Fatal(err)
		}
	}
	three := &privacyv1.UserDataDeleted{Erased: []*privacyv1.ErasedRecords{{Kind: "checks", Anonymized: 3}}}
	for i, call := range []struct {
		step int
		want *privacyv1.UserDataDeleted
	}{{1, three}, {1, three}, {2, &privacyv1.UserDataDeleted{}}} {
		got, err := privacy.DeleteUserData(participanttest.Action(t.Context(), "s", call.step),
			&privacyv1.DeleteUserDataRequest{Customer: "customers/ada"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(call.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("deletion %d (-want +got):\n%s", i, diff)
		}
	}
	list, err := checks.ListChecks(t.Context(), &creditv1.ListChecksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var people []string
	for _, c := range list.GetChecks() {
		people = append(people, c.GetNationalId()+" "+c.GetCustomer())
	}
	if diff := cmp.Diff([]string{"#1 ", "#2 ", "#3 ", "bob-1816 customers/bob", "eve-1817 "}, people); diff != "" {
		t.Errorf("whose checks there are (-want +got):\n%s", diff)
	}
	for _, who := range []*creditv1.GetLastCheckRequest{{NationalId: "ada-1815"}, {NationalId: "#1"},
		{Customer: "customers/ada"}, {}} {
		if last, err := checks.GetLastCheck(t.Context(), who); err != nil || last.GetCheck() != nil {
			t.Errorf("the last check of %v: %v, %v; want none", who, last, err)
		}
	}
	if last, err := checks.GetLastCheck(t.Context(),
		&creditv1.GetLastCheckRequest{Customer: "customers/bob"}); err != nil ||
		last.GetCheck().GetNationalId() != "bob-1816" {
		t.Errorf("the last check of another customer: %v, %v", last, err)
	}
	if _, err := privacy.DeleteUserData(t.Context(),
		&privacyv1.DeleteUserDataRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("deleting nobody: %v, want INVALID_ARGUMENT", err)
	}
}

// TestDeleteUserDataFindsAReusedCheck forgets a person who applied twice: the first application failed, and the second
// reuses its check.
func TestDeleteUserDataFindsAReusedCheck(t *testing.T) {
	connection := serve(t)
	checks, privacy := creditv1.NewCreditServiceClient(connection), privacyv1.NewUserDataServiceClient(connection)
	request := &creditv1.CheckCreditRequest{
		NationalId: "ada-1815", Customer: "customers/first", YearlyIncomeCents: 40_000_00,
		RequestedLimitCents: 2_000_00,
	}
	first, err := checks.CheckCredit(participanttest.Action(t.Context(), "first", 3), request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checks.AbandonCheck(participanttest.Compensation(t.Context(), "first", 3),
		&creditv1.AbandonCheckRequest{Action: request, Reply: first}); err != nil {
		t.Fatal(err)
	}
	if _, err := checks.ReuseCheck(participanttest.Action(t.Context(), "second", 4),
		&creditv1.ReuseCheckRequest{Check: first.GetCheck(), Customer: "customers/second"}); err != nil {
		t.Fatal(err)
	}
	if _, err := privacy.DeleteUserData(participanttest.Action(t.Context(), "forget", 1),
		&privacyv1.DeleteUserDataRequest{Customer: "customers/second"}); err != nil {
		t.Fatal(err)
	}
	list, err := checks.ListChecks(t.Context(), &creditv1.ListChecksRequest{})
	if err != nil || len(list.GetChecks()) != 2 {
		t.Fatalf("checks: %v, %v; want two", list, err)
	}
	for _, c := range list.GetChecks() {
		if c.GetNationalId() == "ada-1815" || c.GetCustomer() != "" {
			t.Errorf("the person was forgotten, and is still in %v", c)
		}
	}
}

// TestForgottenCustomerDoesNotComeBack sends the check of a saga that was in flight when its customer was forgotten.
func TestForgottenCustomerDoesNotComeBack(t *testing.T) {
	connection := serve(t)
	checks, privacy := creditv1.NewCreditServiceClient(connection), privacyv1.NewUserDataServiceClient(connection)
	if _, err := privacy.DeleteUserData(participanttest.Action(t.Context(), "forget", 1),
		&privacyv1.DeleteUserDataRequest{Customer: "customers/ada"}); err != nil {
		t.Fatal(err)
	}
	if _, err := checks.CheckCredit(participanttest.Action(t.Context(), "s", 3), &creditv1.CheckCreditRequest{
		NationalId: "ada-1815", Customer: "customers/ada", YearlyIncomeCents: 40_000_00, RequestedLimitCents: 2_000_00,
	}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("got %v, want FAILED_PRECONDITION", err)
	}
	if list, err := checks.ListChecks(t.Context(), &creditv1.ListChecksRequest{}); err != nil ||
		len(list.GetChecks()) > 0 {
		t.Errorf("checks: %v, %v; want none", list, err)
	}
}
