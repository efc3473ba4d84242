package main

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/participant/inbox"
)

// extraShare is the divisor that turns the main card's limit into the limit of an extra card.
const extraShare = 10

// IssueExtraCard issues an extra card. Whatever could refuse it was decided with the main card, so it never refuses a
// saga that has issued the main card.
func (s *service) IssueExtraCard(
	ctx context.Context, r *cardv1.IssueExtraCardRequest,
) (*cardv1.ExtraCardIssued, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*cardv1.ExtraCardIssued, error) {
		address := &cardv1.PostalAddress{
			Customer: r.GetCustomer(), Postal: r.GetPostal(), AddressRevision: r.GetAddressRevision(),
		}
		if err := checkAddress(address); err != nil {
			return nil, err
		}
		main, err := s.store.card(ctx, tx, r.GetMainCard())
		if err != nil {
			return nil, public(err, r.GetMainCard())
		}
		number, err := newNumber()
		if err != nil {
			return nil, err
		}
		card := &cardv1.Card{
			Name:       "cards/" + strings.ToLower(rand.Text()),
			Customer:   r.GetCustomer(),
			Product:    main.GetProduct(),
			Number:     number,
			LimitCents: max(main.GetLimitCents()/extraShare, 1),
			MainCard:   main.GetName(),
		}
		if err := s.store.addCard(ctx, tx, card); err != nil {
			return nil, err
		}
		if err := s.store.addPostal(ctx, tx, address); err != nil && !errors.Is(err, errExists) {
			return nil, err
		}
		return &cardv1.ExtraCardIssued{Card: card.GetName(), LastFour: number[12:], LimitCents: card.GetLimitCents()},
			nil
	})
}
