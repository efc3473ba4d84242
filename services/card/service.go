package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// service implements the card service as an ordinary gRPC service.
type service struct {
	cardv1.UnimplementedCardServiceServer
	privacyv1.UnimplementedUserDataServiceServer

	store *store
}

// limits are the limits of each product, in euro cents.
var limits = map[string]struct{ lowest, highest int64 }{
	"classic": {100_00, 5_000_00},
	"gold":    {1_000_00, 50_000_00},
}

// IssueCard issues a card.
func (s *service) IssueCard(ctx context.Context, r *cardv1.IssueCardRequest) (*cardv1.CardIssued, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*cardv1.CardIssued, error) {
		if err := checkProduct(r); err != nil {
			return nil, err
		}
		address := &cardv1.PostalAddress{
			Customer: r.GetCustomer(), Postal: r.GetPostal(), AddressRevision: r.GetAddressRevision(),
		}
		if err := checkAddress(address); err != nil {
			return nil, err
		}
		number, err := newNumber()
		if err != nil {
			return nil, err
		}
		card := &cardv1.Card{
			Name:       "cards/" + strings.ToLower(rand.Text()),
			Customer:   r.GetCustomer(),
			Product:    r.GetProduct(),
			Number:     number,
			LimitCents: r.GetLimitCents(),
		}
		if err := s.store.addCard(ctx, tx, card); err != nil {
			return nil, err
		}
		// The address is known already if the customer has another card.
		if err := s.store.addPostal(ctx, tx, address); err != nil && !errors.Is(err, errExists) {
			return nil, err
		}
		return &cardv1.CardIssued{Card: card.GetName(), LastFour: number[12:]}, nil
	})
}

// ChangePostalAddress changes the address that a customer's cards are posted to.
func (s *service) ChangePostalAddress(
	ctx context.Context, r *cardv1.ChangePostalAddressRequest,
) (*cardv1.PostalAddressChanged, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*cardv1.PostalAddressChanged, error) {
		address := &cardv1.PostalAddress{
			Customer: r.GetCustomer(), Postal: r.GetPostal(), AddressRevision: r.GetAddressRevision(),
		}
		if err := checkAddress(address); err != nil {
			return nil, err
		}
		err := s.store.addPostal(ctx, tx, address)
		if errors.Is(err, errExists) {
			return nil, status.Errorf(codes.AlreadyExists, "address_revision: %d of %s already exists",
				r.GetAddressRevision(), r.GetCustomer())
		}
		return &cardv1.PostalAddressChanged{Customer: r.GetCustomer()}, err
	})
}

// RestorePostalAddress undoes ChangePostalAddress.
func (s *service) RestorePostalAddress(
	ctx context.Context, r *cardv1.RestorePostalAddressRequest,
) (*cardv1.PostalAddressRestored, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*cardv1.PostalAddressRestored, error) {
		if r.GetAction().GetCustomer() == "" || r.GetAction().GetAddressRevision() == 0 {
			return nil, status.Error(codes.InvalidArgument,
				"action: say which change of address to undo, by customer and address_revision")
		}
		return &cardv1.PostalAddressRestored{}, s.store.undoPostal(ctx, tx, r.GetAction().GetCustomer(),
			r.GetAction().GetAddressRevision())
	})
}

// GetCard returns one card.
func (s *service) GetCard(ctx context.Context, r *cardv1.GetCardRequest) (*cardv1.Card, error) {
	card, err := s.store.card(ctx, s.store.DB, r.GetName())
	return card, public(err, r.GetName())
}

// ListCards lists cards.
func (s *service) ListCards(ctx context.Context, r *cardv1.ListCardsRequest) (*cardv1.ListCardsResponse, error) {
	page, err := paging.Parse(r.GetPageSize(), r.GetPageToken(), r.GetCustomer())
	if err != nil {
		return nil, err
	}
	cards, next, err := s.store.cards(ctx, r.GetCustomer(), page)
	if err != nil {
		return nil, err
	}
	return &cardv1.ListCardsResponse{Cards: cards, NextPageToken: next}, nil
}

// GetPostalAddress returns the address that a customer's cards are posted to.
func (s *service) GetPostalAddress(
	ctx context.Context, r *cardv1.GetPostalAddressRequest,
) (*cardv1.PostalAddress, error) {
	address, err := s.store.postalAddress(ctx, r.GetCustomer())
	return address, public(err, r.GetCustomer())
}

// ListPostalAddresses lists the addresses that cards are posted to.
func (s *service) ListPostalAddresses(
	ctx context.Context, r *cardv1.ListPostalAddressesRequest,
) (*cardv1.ListPostalAddressesResponse, error) {
	page, err := paging.Parse(r.GetPageSize(), r.GetPageToken())
	if err != nil {
		return nil, err
	}
	addresses, next, err := s.store.postalAddresses(ctx, page)
	if err != nil {
		return nil, err
	}
	return &cardv1.ListPostalAddressesResponse{PostalAddresses: addresses, NextPageToken: next}, nil
}

// public turns sqlitedb.ErrNotFound into a status.
func public(err error, name string) error {
	if errors.Is(err, sqlitedb.ErrNotFound) {
		return status.Errorf(codes.NotFound, "%.80q doesn't exist", name)
	}
	return err
}

func checkProduct(r *cardv1.IssueCardRequest) error {
	offered, ok := limits[r.GetProduct()]
	if !ok {
		return status.Errorf(codes.InvalidArgument, `product: want "classic" or "gold", got %.40q`, r.GetProduct())
	}
	if r.GetLimitCents() < offered.lowest || r.GetLimitCents() > offered.highest {
		return participant.Refuse(codes.OutOfRange, "the product doesn't offer this limit",
			&cardv1.LimitNotOffered{Product: r.GetProduct(), MinLimitCents: offered.lowest,
				MaxLimitCents: offered.highest})
	}
	return nil
}

func checkAddress(a *cardv1.PostalAddress) error {
	if !strings.HasPrefix(a.GetCustomer(), "customers/") || len(a.GetCustomer()) > 100 {
		return status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
	}
	if a.GetAddressRevision() < 1 {
		return status.Error(codes.InvalidArgument,
			"address_revision: want the revision that the customer service gave, from 1")
	}
	return checkPostal(a.GetPostal())
}

// newNumber returns a random card number with an issuer number that nobody has, and with its check digit.
func newNumber() (string, error) {
	n, err := rand.Int(rand.Reader, big.NewInt(1e9))
	if err != nil {
		return "", fmt.Errorf("choosing a card number: %w", err)
	}
	digits := fmt.Sprintf("999999%09d", n)
	return digits + string(rune('0'+checkDigit(digits))), nil
}

// checkDigit returns the digit with which a number passes the Luhn check.
func checkDigit(digits string) int {
	sum := 0
	for i, c := range digits {
		d := int(c - '0')
		if i%2 == len(digits)%2 {
			sum += d
			continue
		}
		if d *= 2; d > 9 {
			d -= 9
		}
		sum += d
	}
	return (10 - sum%10) % 10
}
