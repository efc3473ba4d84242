package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
)

func moving() *customerv1.ChangeAddressSagaRequest {
	return &customerv1.ChangeAddressSagaRequest{
		RequestId: "move", Customer: "customers/ada",
		Address: &customerv1.Address{Lines: []string{"Oude Delft 1"}, City: "Delft", Country: "NL"},
	}
}

func TestChangeAddress(t *testing.T) {
	acme := &company{}
	agreed, err := customerv1.NewCustomerSagasClient(open(t, acme)).ChangeAddress(t.Context(), moving(),
		grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	want := &customerv1.AddressAgreed{Customer: "customers/ada", Address: moving().GetAddress(), AddressRevision: 2}
	if diff := cmp.Diff(want, agreed, protocmp.Transform()); diff != "" {
		t.Errorf("the reply (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"action ChangeAddress", "action ChangePostalAddress"}, acme.seen()); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

func TestChangeAddressToWhereCardsAreNotPosted(t *testing.T) {
	acme := &company{refusals: map[string]error{"ChangePostalAddress": refused(t, &cardv1.AddressNotServed{})}}
	_, err := customerv1.NewCustomerSagasClient(open(t, acme)).ChangeAddress(t.Context(), moving(),
		grpc.WaitForReady(true))
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("got %v, want the card service's refusal", err)
	}
	if !carries[*cardv1.AddressNotServed](err) {
		t.Errorf("%v has the details %v, want the card service's rejection among them", err,
			status.Convert(err).Details())
	}
	want := []string{"action ChangeAddress", "action ChangePostalAddress", "compensation RestoreAddress"}
	if diff := cmp.Diff(want, acme.seen()); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

// carries reports whether an error has a detail of a type.
func carries[T any](err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if _, ok := detail.(T); ok {
			return true
		}
	}
	return false
}
