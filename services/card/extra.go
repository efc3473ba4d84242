package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"strings"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/participant/inbox"
)

// extraShare is which part of the main card's limit an extra card has.
const extraShare = 10

// IssueExtraCard issues an extra card. Everything that could be refused was decided with the main card, so a saga that
// has issued that one can rely on it.
func (s *service) IssueExtraCard(
	ctx context.Context, r *cardv1.IssueExtraCardRequest,
) (*cardv1.ExtraCardIssued, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *sql.Tx) (*cardv1.ExtraCardIssued, error) {
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
