package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// migrations make the database. Times are microseconds since 1970.
var migrations = []string{`
CREATE TABLE checks (
	sequence             INTEGER PRIMARY KEY AUTOINCREMENT,
	name                 TEXT    NOT NULL UNIQUE CHECK (name LIKE 'checks/%'),
	state                TEXT    NOT NULL CHECK (state IN ('PASSED', 'ABANDONED')),
	national_id          TEXT    NOT NULL CHECK (national_id <> ''),
	approved_limit_cents INTEGER NOT NULL CHECK (approved_limit_cents > 0),
	check_time           INTEGER NOT NULL
) STRICT;
CREATE INDEX checks_by_person ON checks (national_id, sequence);
`, `
ALTER TABLE checks ADD COLUMN customer TEXT NOT NULL DEFAULT '';
CREATE INDEX checks_by_customer ON checks (customer, sequence) WHERE customer <> '';
`, forgotten.SQLiteSchema}

var errNotFound = errors.New("not found")

// store keeps credit checks in SQLite.
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

const selectChecks = `SELECT sequence, name, state, national_id, approved_limit_cents, check_time, customer FROM checks`

func scanCheck(scan func(...any) error) (c *creditv1.Check, sequence int64, err error) {
	c = &creditv1.Check{}
	var state string
	var checked int64
	if err := scan(&sequence, &c.Name, &state, &c.NationalId, &c.ApprovedLimitCents, &checked, &c.Customer); err != nil {
		return nil, 0, err
	}
	c.State = creditv1.CheckState(creditv1.CheckState_value["CHECK_STATE_"+state])
	c.CheckTime = timestamppb.New(time.UnixMicro(checked))
	return c, sequence, nil
}

// get returns one check, or errNotFound.
func (s *store) get(ctx context.Context, name string) (*creditv1.Check, error) {
	return s.one(ctx, s.db, selectChecks+` WHERE name = ?`, name)
}

// last returns a person's newest check, whatever came of it, or errNotFound.
func (s *store) last(ctx context.Context, r *creditv1.GetLastCheckRequest) (*creditv1.Check, error) {
	switch {
	case nationalID.MatchString(r.GetNationalId()):
		return s.one(ctx, s.db, selectChecks+` WHERE national_id = ? ORDER BY sequence DESC LIMIT 1`, r.GetNationalId())
	case r.GetNationalId() == "" && r.GetCustomer() != "":
		return s.one(ctx, s.db, selectChecks+` WHERE customer = ? AND customer <> '' ORDER BY sequence DESC LIMIT 1`, r.GetCustomer())
	default:
		return nil, errNotFound
	}
}

// covering returns a person's newest check since some time that covers the limit, whatever came of it, or errNotFound.
func (s *store) covering(ctx context.Context, tx *sql.Tx, r *creditv1.CheckCreditRequest, since time.Time) (*creditv1.Check, error) {
	return s.one(ctx, tx, selectChecks+` WHERE national_id = ? AND check_time > ? AND approved_limit_cents >= ? ORDER BY check_time DESC LIMIT 1`,
		r.GetNationalId(), since.UnixMicro(), r.GetRequestedLimitCents())
}

func (s *store) one(ctx context.Context, q querier, query string, arguments ...any) (*creditv1.Check, error) {
	c, _, err := scanCheck(q.QueryRowContext(ctx, query, arguments...).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading a check: %w", err)
	}
	return c, nil
}

// list returns a page of checks and the token of the next.
func (s *store) list(ctx context.Context, page paging.Page) (checks []*creditv1.Check, next string, err error) {
	rows, err := s.db.QueryContext(ctx, selectChecks+` WHERE sequence > ? ORDER BY sequence LIMIT ?`, page.After, page.Size+1)
	if err != nil {
		return nil, "", fmt.Errorf("listing checks: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var last int64
	for rows.Next() {
		if len(checks) == page.Size {
			next = page.Next(last)
			break
		}
		c, sequence, err := scanCheck(rows.Scan)
		if err != nil {
			return nil, "", fmt.Errorf("listing checks: %w", err)
		}
		checks, last = append(checks, c), sequence
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("listing checks: %w", err)
	}
	return checks, next, nil
}

// add adds a passed check.
func (s *store) add(ctx context.Context, tx *sql.Tx, c *creditv1.Check) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO checks (name, state, national_id, approved_limit_cents, check_time, customer) VALUES (?, 'PASSED', ?, ?, ?, ?)`,
		c.GetName(), c.GetNationalId(), c.GetApprovedLimitCents(), c.GetCheckTime().AsTime().UnixMicro(), c.GetCustomer()); err != nil {
		return fmt.Errorf("adding a check: %w", err)
	}
	return nil
}

// abandon notes that nothing came of a check.
func (s *store) abandon(ctx context.Context, tx *sql.Tx, name string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE checks SET state = 'ABANDONED' WHERE name = ?`, name); err != nil {
		return fmt.Errorf("abandoning a check: %w", err)
	}
	return nil
}
