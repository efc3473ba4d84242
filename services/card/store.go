package main

import (
	"context"
	"database/sql"
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

// migrations make the database. Times are microseconds since 1970.
//
// Cards are posted to where the highest revision says that isn't undone. Revisions come from the customer service and may
// come in any order.
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

var (
	errNotFound = errors.New("not found")
	errExists   = errors.New("exists already")
)

// store keeps cards and postal addresses in SQLite.
type store struct {
	db    *sql.DB
	inbox *inbox.Inbox
}

func openStore(ctx context.Context, path string, retention time.Duration) (*store, error) {
	db, err := sqlitedb.Open(ctx, sqlitedb.Params{Path: path, Migrations: migrations})
	if err != nil {
		return nil, err
	}
	in, err := inbox.OpenSQLite(ctx, db, inbox.Options{Retention: retention})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &store{db: db, inbox: in}, nil
}

func (s *store) close() error { return s.db.Close() }

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

const selectCards = `SELECT sequence, name, customer, product, number, limit_cents, issue_time, main_card FROM cards`

func scanCard(scan func(...any) error) (c *cardv1.Card, sequence int64, err error) {
	c = &cardv1.Card{}
	var issued int64
	if err := scan(&sequence, &c.Name, &c.Customer, &c.Product, &c.Number, &c.LimitCents, &issued, &c.MainCard); err != nil {
		return nil, 0, err
	}
	c.IssueTime = timestamppb.New(time.UnixMicro(issued))
	return c, sequence, nil
}

// card returns one card, or errNotFound.
func (s *store) card(ctx context.Context, q querier, name string) (*cardv1.Card, error) {
	c, _, err := scanCard(q.QueryRowContext(ctx, selectCards+` WHERE name = ?`, name).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading a card: %w", err)
	}
	return c, nil
}

// cards returns a page of a customer's cards, or of everybody's, and the token of the next.
func (s *store) cards(ctx context.Context, customer string, page paging.Page) ([]*cardv1.Card, string, error) {
	query, arguments := selectCards+` WHERE sequence > ?`, []any{page.After}
	if customer != "" {
		query, arguments = query+` AND customer = ?`, append(arguments, customer)
	}
	return list(ctx, s.db, page, scanCard, query, arguments)
}

const selectPostal = `SELECT sequence, customer, revision, lines, postal_code, city, country FROM current_postal_addresses`

func scanPostal(scan func(...any) error) (a *cardv1.PostalAddress, sequence int64, err error) {
	a = &cardv1.PostalAddress{Postal: &cardv1.Postal{}}
	var lines string
	if err := scan(&sequence, &a.Customer, &a.AddressRevision, &lines, &a.Postal.PostalCode, &a.Postal.City, &a.Postal.Country); err != nil {
		return nil, 0, err
	}
	a.Postal.Lines = strings.Split(lines, "\n")
	return a, sequence, nil
}

// postalAddress returns where a customer's cards are posted to, or errNotFound.
func (s *store) postalAddress(ctx context.Context, customer string) (*cardv1.PostalAddress, error) {
	a, _, err := scanPostal(s.db.QueryRowContext(ctx, selectPostal+` WHERE customer = ?`, customer).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading a postal address: %w", err)
	}
	return a, nil
}

// postalAddresses returns a page of postal addresses and the token of the next.
func (s *store) postalAddresses(ctx context.Context, page paging.Page) ([]*cardv1.PostalAddress, string, error) {
	return list(ctx, s.db, page, scanPostal, selectPostal+` WHERE sequence > ?`, []any{page.After})
}

// list reads one row more than the page holds, to know whether there is a next one.
func list[T any](ctx context.Context, db *sql.DB, page paging.Page, scan func(func(...any) error) (T, int64, error), query string, arguments []any) (found []T, next string, err error) {
	rows, err := db.QueryContext(ctx, query+` ORDER BY sequence LIMIT ?`, append(arguments, page.Size+1)...)
	if err != nil {
		return nil, "", fmt.Errorf("listing: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var last int64
	for rows.Next() {
		if len(found) == page.Size {
			next = page.Next(last)
			break
		}
		one, sequence, err := scan(rows.Scan)
		if err != nil {
			return nil, "", fmt.Errorf("listing: %w", err)
		}
		found, last = append(found, one), sequence
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("listing: %w", err)
	}
	return found, next, nil
}

// addCard adds a card.
func (s *store) addCard(ctx context.Context, tx *sql.Tx, c *cardv1.Card) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO cards (name, customer, product, number, limit_cents, issue_time, main_card) VALUES (?, ?, ?, ?, ?, ?, ?)`,
		c.GetName(), c.GetCustomer(), c.GetProduct(), c.GetNumber(), c.GetLimitCents(), time.Now().UnixMicro(), c.GetMainCard()); err != nil {
		return fmt.Errorf("adding a card: %w", err)
	}
	return nil
}

// addPostal adds a revision of a postal address. It refuses that of a customer who was forgotten, and returns errExists when that revision is there.
func (s *store) addPostal(ctx context.Context, tx *sql.Tx, a *cardv1.PostalAddress) error {
	if err := forgotten.Refuse(ctx, tx, a.GetCustomer()); err != nil {
		return err
	}
	p := a.GetPostal()
	result, err := tx.ExecContext(ctx, `
		INSERT INTO postal_addresses (customer, revision, lines, postal_code, city, country) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (customer, revision) DO NOTHING`,
		a.GetCustomer(), a.GetAddressRevision(), strings.Join(p.GetLines(), "\n"), p.GetPostalCode(), p.GetCity(), p.GetCountry())
	if err != nil {
		return fmt.Errorf("adding a postal address: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("adding a postal address: %w", err)
	}
	if n == 0 {
		return errExists
	}
	return nil
}

// undoPostal takes one change of postal address back.
func (s *store) undoPostal(ctx context.Context, tx *sql.Tx, customer string, revision int64) error {
	if _, err := tx.ExecContext(ctx, `UPDATE postal_addresses SET undone = 1 WHERE customer = ? AND revision = ?`, customer, revision); err != nil {
		return fmt.Errorf("undoing a change of postal address: %w", err)
	}
	return nil
}
