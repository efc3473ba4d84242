package main

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// TestForgottenCustomerDoesNotComeBack sends commands of sagas in flight about a forgotten customer.
func TestForgottenCustomerDoesNotComeBack(t *testing.T) {
	connection := serve(t)
	cards, privacy := cardv1.NewCardServiceClient(connection), privacyv1.NewUserDataServiceClient(connection)
	issue := func(ctx context.Context, customer string) (*cardv1.CardIssued, error) {
		return cards.IssueCard(ctx, &cardv1.IssueCardRequest{
			Customer: customer, Product: "classic", LimitCents: 500_00, Postal: postal("Oude Delft 1"),
			AddressRevision: 1,
		})
	}
	main, err := issue(participanttest.Action(t.Context(), "bob", 1), "customers/bob")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issue(participanttest.Action(t.Context(), "ada", 1), "customers/ada"); err != nil {
		t.Fatal(err)
	}
	if _, err := privacy.DeleteUserData(participanttest.Action(t.Context(), "forget", 1),
		&privacyv1.DeleteUserDataRequest{Customer: "customers/ada"}); err != nil {
		t.Fatal(err)
	}
	for name, send := range map[string]func(context.Context) error{
		"IssueCard": func(ctx context.Context) error {
			_, err := issue(ctx, "customers/ada")
			return err
		},
		"IssueExtraCard": func(ctx context.Context) error {
			_, err := cards.IssueExtraCard(ctx, &cardv1.IssueExtraCardRequest{
				Customer: "customers/ada", MainCard: main.GetCard(), Postal: postal("Oude Delft 1"), AddressRevision: 1,
			})
			return err
		},
		"ChangePostalAddress": func(ctx context.Context) error {
			_, err := cards.ChangePostalAddress(ctx, &cardv1.ChangePostalAddressRequest{
				Customer: "customers/ada", Postal: postal("Rapenburg 70"), AddressRevision: 2,
			})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := send(participanttest.Action(t.Context(), name, 2)); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("got %v, want FAILED_PRECONDITION", err)
			}
			list, err := cards.ListCards(t.Context(), &cardv1.ListCardsRequest{Customer: "customers/ada"})
			if err != nil || len(list.GetCards()) > 0 {
				t.Errorf("cards of the forgotten customer: %v, %v", list, err)
			}
			if where, err := cards.GetPostalAddress(t.Context(),
				&cardv1.GetPostalAddressRequest{Customer: "customers/ada"}); status.Code(err) != codes.NotFound {
				t.Errorf("the address of the forgotten customer: %v, %v", where, err)
			}
		})
	}
}
