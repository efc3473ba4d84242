package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// migrations make the database. Times are microseconds since 1970.
var migrations = []string{`
CREATE TABLE applicants (
	sequence           INTEGER PRIMARY KEY AUTOINCREMENT,
	name               TEXT    NOT NULL UNIQUE CHECK (name LIKE 'applicants/%'),
	customer           TEXT    NOT NULL CHECK (customer LIKE 'customers/%'),
	display_name       TEXT    NOT NULL CHECK (display_name <> ''),
	passport_number    TEXT    NOT NULL CHECK (passport_number <> ''),
	register_reference TEXT    NOT NULL UNIQUE,
	create_time        INTEGER NOT NULL
) STRICT;
`, `
ALTER TABLE applicants ADD COLUMN register_key TEXT NOT NULL DEFAULT '';
CREATE INDEX applicants_by_customer ON applicants (customer);
CREATE TABLE inspections (
	sequence     INTEGER PRIMARY KEY AUTOINCREMENT,
	name         TEXT    NOT NULL UNIQUE CHECK (name LIKE 'inspections/%'),
	applicant    TEXT    NOT NULL CHECK (applicant LIKE 'applicants/%'),
	command_id   TEXT    NOT NULL UNIQUE,
	due_time     INTEGER NOT NULL,
	inspect_time INTEGER
) STRICT;
CREATE INDEX inspections_by_applicant ON inspections (applicant);
`, forgotten.SQLiteSchema}

var errNotFound = errors.New("not found")

// store keeps applicants in SQLite.
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

const selectApplicants = `SELECT sequence, name, customer, display_name, passport_number, register_reference, create_time FROM applicants`

func scanApplicant(scan func(...any) error) (a *identityv1.Applicant, sequence int64, err error) {
	a = &identityv1.Applicant{}
	var created int64
	if err := scan(&sequence, &a.Name, &a.Customer, &a.DisplayName, &a.PassportNumber, &a.RegisterReference, &created); err != nil {
		return nil, 0, err
	}
	a.CreateTime = timestamppb.New(time.UnixMicro(created))
	return a, sequence, nil
}

// get returns one applicant, or errNotFound.
func (s *store) get(ctx context.Context, q querier, name string) (*identityv1.Applicant, error) {
	a, _, err := scanApplicant(q.QueryRowContext(ctx, selectApplicants+` WHERE name = ?`, name).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading an applicant: %w", err)
	}
	return a, nil
}

// list returns a page of applicants and the token of the next.
func (s *store) list(ctx context.Context, page paging.Page) (applicants []*identityv1.Applicant, next string, err error) {
	rows, err := s.db.QueryContext(ctx, selectApplicants+` WHERE sequence > ? ORDER BY sequence LIMIT ?`, page.After, page.Size+1)
	if err != nil {
		return nil, "", fmt.Errorf("listing applicants: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var last int64
	for rows.Next() {
		if len(applicants) == page.Size {
			next = page.Next(last)
			break
		}
		a, sequence, err := scanApplicant(rows.Scan)
		if err != nil {
			return nil, "", fmt.Errorf("listing applicants: %w", err)
		}
		applicants, last = append(applicants, a), sequence
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("listing applicants: %w", err)
	}
	return applicants, next, nil
}

// add adds an applicant, who is registered at the register under a key.
func (s *store) add(ctx context.Context, tx *sql.Tx, registerKey string, a *identityv1.Applicant) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO applicants (name, customer, display_name, passport_number, register_reference, create_time, register_key)
		VALUES (?, ?, ?, ?, ?, ?, ?)`,
		a.GetName(), a.GetCustomer(), a.GetDisplayName(), a.GetPassportNumber(), a.GetRegisterReference(), time.Now().UnixMicro(), registerKey); err != nil {
		return fmt.Errorf("adding an applicant: %w", err)
	}
	return nil
}

// remove deletes all that is known about an applicant.
func (s *store) remove(ctx context.Context, tx *sql.Tx, name string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM applicants WHERE name = ?`, name); err != nil {
		return fmt.Errorf("removing an applicant: %w", err)
	}
	return nil
}
