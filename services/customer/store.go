package main

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// migrations create the database. Times are microseconds since 1970.
//
// A customer's address is the newest one that isn't undone, so changes that cross can be undone in any order.
var migrations = []string{`
CREATE TABLE customers (
	sequence     INTEGER PRIMARY KEY AUTOINCREMENT,
	name         TEXT    NOT NULL UNIQUE CHECK (name LIKE 'customers/%'),
	state        TEXT    NOT NULL CHECK (state IN ('ACTIVE', 'CLOSED')),
	display_name TEXT    NOT NULL CHECK (display_name <> ''),
	email        TEXT    NOT NULL UNIQUE COLLATE NOCASE,
	create_time  INTEGER NOT NULL,
	close_time   INTEGER,
	CHECK ((state = 'CLOSED') = (close_time IS NOT NULL))
) STRICT;
CREATE TABLE addresses (
	customer    TEXT    NOT NULL REFERENCES customers (name) ON DELETE CASCADE,
	revision    INTEGER NOT NULL CHECK (revision > 0),
	lines       TEXT    NOT NULL CHECK (lines <> ''),
	postal_code TEXT    NOT NULL,
	city        TEXT    NOT NULL CHECK (city <> ''),
	country     TEXT    NOT NULL CHECK (country GLOB '[A-Z][A-Z]'),
	undone      INTEGER NOT NULL DEFAULT 0 CHECK (undone IN (0, 1)),
	PRIMARY KEY (customer, revision),
	CHECK (revision > 1 OR undone = 0)
) STRICT, WITHOUT ROWID;
CREATE VIEW current_addresses AS
	SELECT a.* FROM addresses a
	WHERE a.revision = (SELECT max(revision) FROM addresses b WHERE b.customer = a.customer AND b.undone = 0);
`}

// store stores customers in SQLite.
type store struct{ *sqlitedb.Store }

var customerRows = sqlitedb.Query[*row]{
	Kind: "customers",
	Select: `SELECT c.sequence, c.name, c.state, c.display_name, c.email, c.create_time, c.close_time,
		a.revision, a.lines, a.postal_code, a.city, a.country
		FROM customers c JOIN current_addresses a ON a.customer = c.name`,
	Scan: scanCustomer,
}

// row is a customer as the database holds it.
type row struct {
	customer  *customerv1.Customer
	closeTime *timestamppb.Timestamp
}

func scanCustomer(scan func(...any) error) (r *row, sequence int64, err error) {
	r = &row{customer: &customerv1.Customer{Address: &customerv1.Address{}}}
	c, a := r.customer, r.customer.Address
	var state, lines string
	var created int64
	var closed sql.NullInt64
	if err := scan(&sequence, &c.Name, &state, &c.DisplayName, &c.Email, &created, &closed,
		&c.AddressRevision, &lines, &a.PostalCode, &a.City, &a.Country); err != nil {
		return nil, 0, err
	}
	c.State = customerv1.CustomerState(customerv1.CustomerState_value["CUSTOMER_STATE_"+state])
	c.CreateTime = timestamppb.New(time.UnixMicro(created))
	if closed.Valid {
		r.closeTime = timestamppb.New(time.UnixMicro(closed.Int64))
	}
	a.Lines = strings.Split(lines, "\n")
	return r, sequence, nil
}

// get returns one customer, or sqlitedb.ErrNotFound.
func (s *store) get(ctx context.Context, q sqlitedb.Querier, name string) (*row, error) {
	return customerRows.One(ctx, q, `WHERE c.name = ?`, name)
}

// list returns one page of customers and the token of the next page.
func (s *store) list(ctx context.Context, page paging.Page) (customers []*customerv1.Customer, next string, err error) {
	rows, next, err := customerRows.Page(ctx, s.DB, page, `true`)
	for _, r := range rows {
		customers = append(customers, r.customer)
	}
	return customers, next, err
}

// emailTaken reports whether a customer has the e-mail address.
func (s *store) emailTaken(ctx context.Context, tx *inbox.Tx, email string) (taken bool, err error) {
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT * FROM customers WHERE email = ?)`, email).Scan(&taken)
	if err != nil {
		return false, fmt.Errorf("looking up an e-mail address: %w", err)
	}
	return taken, nil
}

// add adds an active customer with the first revision of an address.
func (s *store) add(ctx context.Context, tx *inbox.Tx, name string, r *customerv1.CreateCustomerRequest) error {
	if _, err := tx.ExecContext(ctx,
		`INSERT INTO customers (name, state, display_name, email, create_time) VALUES (?, 'ACTIVE', ?, ?, ?)`,
		name, r.GetDisplayName(), r.GetEmail(), time.Now().UnixMicro()); err != nil {
		return fmt.Errorf("adding a customer: %w", err)
	}
	_, err := s.addAddress(ctx, tx, name, r.GetAddress())
	return err
}

// addAddress adds an address and returns its revision.
func (s *store) addAddress(
	ctx context.Context, tx *inbox.Tx, customer string, a *customerv1.Address,
) (revision int64, err error) {
	err = tx.QueryRowContext(ctx, `
		INSERT INTO addresses (customer, revision, lines, postal_code, city, country)
		VALUES (?1, (SELECT coalesce(max(revision), 0) + 1 FROM addresses WHERE customer = ?1), ?2, ?3, ?4, ?5)
		RETURNING revision`,
		customer, strings.Join(a.GetLines(), "\n"), a.GetPostalCode(), a.GetCity(), a.GetCountry()).Scan(&revision)
	if err != nil {
		return 0, fmt.Errorf("adding an address: %w", err)
	}
	return revision, nil
}

// undoAddress undoes one change of address. It does nothing if the customer no longer exists.
func (s *store) undoAddress(ctx context.Context, tx *inbox.Tx, customer string, revision int64) error {
	if _, err := tx.ExecContext(ctx, `UPDATE addresses SET undone = 1 WHERE customer = ? AND revision = ?`, customer,
		revision); err != nil {
		return fmt.Errorf("undoing a change of address: %w", err)
	}
	return nil
}

// remove deletes a customer with all addresses.
func (s *store) remove(ctx context.Context, tx *inbox.Tx, name string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM customers WHERE name = ?`, name); err != nil {
		return fmt.Errorf("removing a customer: %w", err)
	}
	return nil
}

// end closes a customer.
func (s *store) end(ctx context.Context, tx *inbox.Tx, name string) error {
	if _, err := tx.ExecContext(ctx,
		`UPDATE customers SET state = 'CLOSED', close_time = ? WHERE name = ? AND state = 'ACTIVE'`,
		time.Now().UnixMicro(), name); err != nil {
		return fmt.Errorf("closing a customer: %w", err)
	}
	return nil
}
