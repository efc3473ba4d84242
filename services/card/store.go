package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// migrations create the database. Times are microseconds since 1970.
//
// Cards are posted to the address with the highest revision that isn't undone. The customer service assigns the
// revisions, and they may arrive in any order.
var migrations = []string{`
CREATE TABLE cards (
	sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
	name        TEXT    NOT NULL UNIQUE CHECK (name LIKE 'cards/%'),
	customer    TEXT    NOT NULL CHECK (customer LIKE 'customers/%'),
	product     TEXT    NOT NULL CHECK (product IN ('classic', 'gold')),
	number      TEXT    NOT NULL UNIQUE CHECK (length(number) = 16),
	limit_cents INTEGER NOT NULL CHECK (limit_cents > 0),
	issue_time  INTEGER NOT NULL
) STRICT;
CREATE INDEX cards_by_customer ON cards (customer, sequence);
CREATE TABLE postal_addresses (
	sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
	customer    TEXT    NOT NULL CHECK (customer LIKE 'customers/%'),
	revision    INTEGER NOT NULL CHECK (revision > 0),
	lines       TEXT    NOT NULL CHECK (lines <> ''),
	postal_code TEXT    NOT NULL,
	city        TEXT    NOT NULL CHECK (city <> ''),
	country     TEXT    NOT NULL CHECK (country GLOB '[A-Z][A-Z]'),
	undone      INTEGER NOT NULL DEFAULT 0 CHECK (undone IN (0, 1)),
	UNIQUE (customer, revision)
) STRICT;
CREATE VIEW current_postal_addresses AS
	SELECT a.* FROM postal_addresses a
	WHERE a.revision = (SELECT max(revision) FROM postal_addresses b WHERE b.customer = a.customer AND b.undone = 0);
`, `
ALTER TABLE cards ADD COLUMN main_card TEXT NOT NULL DEFAULT '' CHECK (main_card = '' OR main_card LIKE 'cards/%');
`, forgotten.SQLiteSchema}

var errExists = errors.New("already exists")

// store stores cards and postal addresses in SQLite.
type store struct{ *sqlitedb.Store }

var cardRows = sqlitedb.Query[*cardv1.Card]{
	Kind:   "cards",
	Select: `SELECT sequence, name, customer, product, number, limit_cents, issue_time, main_card FROM cards`,
	Scan:   scanCard,
}

func scanCard(scan func(...any) error) (c *cardv1.Card, sequence int64, err error) {
	c = &cardv1.Card{}
	var issued int64
	if err := scan(&sequence, &c.Name, &c.Customer, &c.Product, &c.Number, &c.LimitCents, &issued,
		&c.MainCard); err != nil {
		return nil, 0, err
	}
	c.IssueTime = timestamppb.New(time.UnixMicro(issued))
	return c, sequence, nil
}

// card returns one card, or sqlitedb.ErrNotFound.
func (s *store) card(ctx context.Context, q sqlitedb.Querier, name string) (*cardv1.Card, error) {
	return cardRows.One(ctx, q, `WHERE name = ?`, name)
}

// cards returns one page of a customer's cards, or of all cards if customer is empty, and the token of the next page.
func (s *store) cards(ctx context.Context, customer string, page paging.Page) ([]*cardv1.Card, string, error) {
	if customer == "" {
		return cardRows.Page(ctx, s.DB, page, `true`)
	}
	return cardRows.Page(ctx, s.DB, page, `customer = ?`, customer)
}

var postalRows = sqlitedb.Query[*cardv1.PostalAddress]{
	Kind:   "postal addresses",
	Select: `SELECT sequence, customer, revision, lines, postal_code, city, country FROM current_postal_addresses`,
	Scan:   scanPostal,
}

func scanPostal(scan func(...any) error) (a *cardv1.PostalAddress, sequence int64, err error) {
	a = &cardv1.PostalAddress{Postal: &cardv1.Postal{}}
	p := a.Postal
	var lines string
	if err := scan(
		&sequence, &a.Customer, &a.AddressRevision, &lines, &p.PostalCode, &p.City, &p.Country,
	); err != nil {
		return nil, 0, err
	}
	p.Lines = strings.Split(lines, "\n")
	return a, sequence, nil
}

// postalAddress returns the address that a customer's cards are posted to, or sqlitedb.ErrNotFound.
func (s *store) postalAddress(ctx context.Context, customer string) (*cardv1.PostalAddress, error) {
	return postalRows.One(ctx, s.DB, `WHERE customer = ?`, customer)
}

// postalAddresses returns one page of postal addresses and the token of the next page.
func (s *store) postalAddresses(ctx context.Context, page paging.Page) ([]*cardv1.PostalAddress, string, error) {
	return postalRows.Page(ctx, s.DB, page, `true`)
}

// addCard adds a card.
func (s *store) addCard(ctx context.Context, tx *inbox.Tx, c *cardv1.Card) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO cards (name, customer, product, number, limit_cents, issue_time, main_card)
		VALUES (?, ?, ?, ?, ?, ?, ?)`,
		c.GetName(), c.GetCustomer(), c.GetProduct(), c.GetNumber(), c.GetLimitCents(), time.Now().UnixMicro(),
		c.GetMainCard()); err != nil {
		return fmt.Errorf("adding a card: %w", err)
	}
	return nil
}

// addPostal adds a revision of a postal address. It refuses to do so for a forgotten customer, and returns errExists if
// the revision already exists.
func (s *store) addPostal(ctx context.Context, tx *inbox.Tx, a *cardv1.PostalAddress) error {
	if err := forgotten.Refuse(ctx, tx, a.GetCustomer()); err != nil {
		return err
	}
	p := a.GetPostal()
	n, err := sqlitedb.Count(ctx, tx, `
		INSERT INTO postal_addresses (customer, revision, lines, postal_code, city, country) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (customer, revision) DO NOTHING`, a.GetCustomer(), a.GetAddressRevision(),
		strings.Join(p.GetLines(), "\n"), p.GetPostalCode(), p.GetCity(), p.GetCountry())
	if err != nil {
		return fmt.Errorf("adding a postal address: %w", err)
	}
	if n == 0 {
		return errExists
	}
	return nil
}

// undoPostal undoes one change of a postal address.
func (s *store) undoPostal(ctx context.Context, tx *inbox.Tx, customer string, revision int64) error {
	if _, err := tx.ExecContext(ctx,
		`UPDATE postal_addresses SET undone = 1 WHERE customer = ? AND revision = ?`, customer, revision); err != nil {
		return fmt.Errorf("undoing a change of postal address: %w", err)
	}
	return nil
}
