package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// migrations create the database. Times are microseconds since 1970.
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

// store stores applicants and inspections in SQLite.
type store struct{ *sqlitedb.Store }

var applicantRows = sqlitedb.Query[*identityv1.Applicant]{
	Kind: "applicants",
	Select: `SELECT sequence, name, customer, display_name, passport_number, register_reference, create_time
		FROM applicants`,
	Scan: scanApplicant,
}

func scanApplicant(scan func(...any) error) (a *identityv1.Applicant, sequence int64, err error) {
	a = &identityv1.Applicant{}
	var created int64
	if err := scan(&sequence, &a.Name, &a.Customer, &a.DisplayName, &a.PassportNumber, &a.RegisterReference,
		&created); err != nil {
		return nil, 0, err
	}
	a.CreateTime = timestamppb.New(time.UnixMicro(created))
	return a, sequence, nil
}

// get returns one applicant, or sqlitedb.ErrNotFound.
func (s *store) get(ctx context.Context, q sqlitedb.Querier, name string) (*identityv1.Applicant, error) {
	return applicantRows.One(ctx, q, `WHERE name = ?`, name)
}

// list returns one page of applicants and the token of the next page.
func (s *store) list(ctx context.Context, page paging.Page) ([]*identityv1.Applicant, string, error) {
	return applicantRows.Page(ctx, s.DB, page, `true`)
}

// add adds an applicant who is registered at the register under a key.
func (s *store) add(ctx context.Context, tx *inbox.Tx, registerKey string, a *identityv1.Applicant) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO applicants
			(name, customer, display_name, passport_number, register_reference, create_time, register_key)
		VALUES (?, ?, ?, ?, ?, ?, ?)`,
		a.GetName(), a.GetCustomer(), a.GetDisplayName(), a.GetPassportNumber(), a.GetRegisterReference(),
		time.Now().UnixMicro(), registerKey); err != nil {
		return fmt.Errorf("adding an applicant: %w", err)
	}
	return nil
}

// remove deletes an applicant.
func (s *store) remove(ctx context.Context, tx *inbox.Tx, name string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM applicants WHERE name = ?`, name); err != nil {
		return fmt.Errorf("removing an applicant: %w", err)
	}
	return nil
}
