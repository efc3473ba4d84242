package main

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/participanttest"
)

func TestDeleteUserData(t *testing.T) {
	connection, _ := serve(t)
	customers, privacy := customerv1.NewCustomerServiceClient(connection),
		privacyv1.NewUserDataServiceClient(connection)
	name := create(t, customers)
	if _, err := customers.ChangeAddress(t.Context(), &customerv1.ChangeAddressRequest{Customer: name,
		Address: address("A")}); err != nil {
		t.Fatal(err)
	}
	all := &privacyv1.UserDataDeleted{Erased: []*privacyv1.ErasedRecords{{Kind: "customers", Deleted: 1},
		{Kind: "addresses", Deleted: 2}}}
	for i, call := range []struct {
		step int
		want *privacyv1.UserDataDeleted
	}{{1, all}, {1, all}, {2, &privacyv1.UserDataDeleted{}}} {
		got, err := privacy.DeleteUserData(participanttest.Action(t.Context(), "s", call.step),
			&privacyv1.DeleteUserDataRequest{Customer: name})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(call.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("deletion %d (-want +got):\n%s", i, diff)
		}
	}
	if _, err := customers.GetCustomer(t.Context(),
		&customerv1.GetCustomerRequest{Name: name}); status.Code(err) != codes.NotFound {
		t.Errorf("the deleted customer: %v, want NOT_FOUND", err)
	}
	move := &customerv1.ChangeAddressRequest{Customer: name, Address: address("B")}
	if _, err := customers.ChangeAddress(participanttest.Action(t.Context(), "late", 1),
		move); status.Code(err) != codes.NotFound {
		t.Errorf("a change of the deleted customer's address: %v, want NOT_FOUND", err)
	}
	if again := create(t, customers); again == name {
		t.Errorf("who comes back is %s again", again)
	}
	if _, err := privacy.DeleteUserData(t.Context(),
		&privacyv1.DeleteUserDataRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("deleting nobody: %v, want INVALID_ARGUMENT", err)
	}
}

// TestInboxHoldsNothingPersonal sends all commands about a customer. No stored answer contains personal data of the
// requests.
func TestInboxHoldsNothingPersonal(t *testing.T) {
	connection, path := serve(t)
	customers, privacy := customerv1.NewCustomerServiceClient(connection),
		privacyv1.NewUserDataServiceClient(connection)
	created, err := customers.CreateCustomer(participanttest.Action(t.Context(), "s", 1), ada())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := customers.CreateCustomer(participanttest.Action(t.Context(), "s", 2),
		ada()); status.Code(err) != codes.AlreadyExists {
		t.Errorf("the same e-mail address: %v, want ALREADY_EXISTS", err)
	}
	move := &customerv1.ChangeAddressRequest{Customer: created.GetCustomer(), Address: address("Rapenburg 70")}
	changed, err := customers.ChangeAddress(participanttest.Action(t.Context(), "s", 3), move)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := customers.RestoreAddress(participanttest.Compensation(t.Context(), "s", 3),
		&customerv1.RestoreAddressRequest{Action: move, Reply: changed}); err != nil {
		t.Fatal(err)
	}
	if got := street(t, customers, created.GetCustomer()); got != "Oude Delft 1" {
		t.Errorf("after the undo the customer lives at %q, want the address before", got)
	}
	if _, err := privacy.DeleteUserData(participanttest.Action(t.Context(), "forget", 1),
		&privacyv1.DeleteUserDataRequest{Customer: created.GetCustomer()}); err != nil {
		t.Fatal(err)
	}
	ledger, err := participanttest.ReadLedger(t.Context(), path)
	if err != nil || len(ledger) != 5 {
		t.Fatalf("%d answers are kept, want 5: %v", len(ledger), err)
	}
	for _, row := range ledger {
		for _, personal := range []string{"Ada", "ada@example.com", "Oude Delft 1", "Rapenburg 70", "2611 AA",
			"Delft"} {
			if bytes.Contains(row.Reply, []byte(personal)) {
				t.Errorf("the answer to %s %s holds %q: %q", row.Direction, row.Method, personal, row.Reply)
			}
		}
	}
}
