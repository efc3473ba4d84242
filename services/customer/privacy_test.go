package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/services/participant/participanttest"
)

func TestDeleteUserData(t *testing.T) {
	connection, _ := serve(t)
	customers, privacy := customerv1.NewCustomerServiceClient(connection), privacyv1.NewUserDataServiceClient(connection)
	name := create(t, customers)
	if _, err := customers.ChangeAddress(t.Context(), &customerv1.ChangeAddressRequest{Customer: name, Address: address("A")}); err != nil {
		t.Fatal(err)
	}
	all := &privacyv1.UserDataDeleted{Erased: []*privacyv1.ErasedRecords{{Kind: "customers", Deleted: 1}, {Kind: "addresses", Deleted: 2}}}
	for i, call := range []struct {
		step int
		want *privacyv1.UserDataDeleted
	}{{1, all}, {1, all}, {2, &privacyv1.UserDataDeleted{}}} {
		got, err := privacy.DeleteUserData(participanttest.Action(t.Context(), "s", call.step), &privacyv1.DeleteUserDataRequest{Customer: name})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(call.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("deletion %d (-want +got):\n%s", i, diff)
		}
	}
	if _, err := customers.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{Name: name}); status.Code(err) != codes.NotFound {
		t.Errorf("the deleted customer: %v, want NOT_FOUND", err)
	}
	if again := create(t, customers); again == name {
		t.Errorf("who comes back is %s again", again)
	}
	if _, err := privacy.DeleteUserData(t.Context(), &privacyv1.DeleteUserDataRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("deleting nobody: %v, want INVALID_ARGUMENT", err)
	}
}
