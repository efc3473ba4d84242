package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/participanttest"
)

func issueGold(t *testing.T, client cardv1.CardServiceClient) *cardv1.CardIssued {
	t.Helper()
	main, err := client.IssueCard(t.Context(), &cardv1.IssueCardRequest{
		Customer: "customers/head", Product: "gold", LimitCents: 10_000_00, Postal: postal("Oude Delft 1"),
		AddressRevision: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	return main
}

func TestIssueExtraCard(t *testing.T) {
	client := start(t)
	main := issueGold(t, client)
	request := &cardv1.IssueExtraCardRequest{
		Customer: "customers/child", MainCard: main.GetCard(), Postal: postal("Oude Delft 1"), AddressRevision: 1,
	}
	issued, err := client.IssueExtraCard(participanttest.Action(t.Context(), "s", 9), request)
	if err != nil {
		t.Fatal(err)
	}
	again, err := client.IssueExtraCard(participanttest.Action(t.Context(), "s", 9), request)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(issued, again, protocmp.Transform()); diff != "" {
		t.Errorf("the duplicate got another card (-first +second):\n%s", diff)
	}
	card, err := client.GetCard(t.Context(), &cardv1.GetCardRequest{Name: issued.GetCard()})
	if err != nil {
		t.Fatal(err)
	}
	want := &cardv1.Card{
		Name: issued.GetCard(), Customer: "customers/child", Product: "gold", LimitCents: 1_000_00,
		MainCard: main.GetCard(),
	}
	if diff := cmp.Diff(want, card, protocmp.Transform(), protocmp.IgnoreFields(want, "number",
		"issue_time")); diff != "" {
		t.Errorf("the extra card (-want +got):\n%s", diff)
	}
	if _, err := client.GetPostalAddress(t.Context(),
		&cardv1.GetPostalAddressRequest{Customer: "customers/child"}); err != nil {
		t.Errorf("where it is posted to: %v", err)
	}
	request.MainCard = "cards/none"
	if _, err := client.IssueExtraCard(t.Context(), request); status.Code(err) != codes.NotFound {
		t.Errorf("an extra card of no card: %v, want NOT_FOUND", err)
	}
	request.MainCard, request.AddressRevision = main.GetCard(), 0
	if _, err := client.IssueExtraCard(t.Context(), request); status.Code(err) != codes.InvalidArgument {
		t.Errorf("an extra card without a revision: %v, want INVALID_ARGUMENT", err)
	}
}

func TestDeleteUserData(t *testing.T) {
	connection := serve(t)
	client, privacy := cardv1.NewCardServiceClient(connection), privacyv1.NewUserDataServiceClient(connection)
	main := issueGold(t, client)
	if _, err := client.IssueExtraCard(t.Context(), &cardv1.IssueExtraCardRequest{
		Customer: "customers/child", MainCard: main.GetCard(), Postal: postal("Oude Delft 1"), AddressRevision: 1,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.ChangePostalAddress(t.Context(), &cardv1.ChangePostalAddressRequest{Customer: "customers/head",
		Postal: postal("A"), AddressRevision: 2}); err != nil {
		t.Fatal(err)
	}
	all := &privacyv1.UserDataDeleted{Erased: []*privacyv1.ErasedRecords{{Kind: "cards", Deleted: 1},
		{Kind: "postal addresses", Deleted: 2}}}
	for i, call := range []struct {
		step int
		want *privacyv1.UserDataDeleted
	}{{1, all}, {1, all}, {2, &privacyv1.UserDataDeleted{}}} {
		got, err := privacy.DeleteUserData(participanttest.Action(t.Context(), "s", call.step),
			&privacyv1.DeleteUserDataRequest{Customer: "customers/head"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(call.want, got, protocmp.Transform()); diff != "" {
			t.Errorf("deletion %d (-want +got):\n%s", i, diff)
		}
	}
	left, err := client.ListCards(t.Context(), &cardv1.ListCardsRequest{})
	if err != nil || len(left.GetCards()) != 1 || left.GetCards()[0].GetCustomer() != "customers/child" {
		t.Errorf("cards left: %v, %v; want the child's", left, err)
	}
	addresses, err := client.ListPostalAddresses(t.Context(), &cardv1.ListPostalAddressesRequest{})
	if err != nil || len(addresses.GetPostalAddresses()) != 1 {
		t.Errorf("postal addresses left: %v, %v; want the child's", addresses, err)
	}
	if _, err := privacy.DeleteUserData(t.Context(),
		&privacyv1.DeleteUserDataRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("deleting nobody: %v, want INVALID_ARGUMENT", err)
	}
}
