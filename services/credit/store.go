package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/paging"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// migrations create the database. Times are microseconds since 1970.
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

// store stores credit checks in SQLite.
type store struct{ *sqlitedb.Store }

var checkRows = sqlitedb.Query[*creditv1.Check]{
	Kind:   "checks",
	Select: `SELECT sequence, name, state, national_id, approved_limit_cents, check_time, customer FROM checks`,
	Scan:   scanCheck,
}

func scanCheck(scan func(...any) error) (c *creditv1.Check, sequence int64, err error) {
	c = &creditv1.Check{}
	var state string
	var checked int64
	if err := scan(&sequence, &c.Name, &state, &c.NationalId, &c.ApprovedLimitCents, &checked,
		&c.Customer); err != nil {
		return nil, 0, err
	}
	c.State = creditv1.CheckState(creditv1.CheckState_value["CHECK_STATE_"+state])
	c.CheckTime = timestamppb.New(time.UnixMicro(checked))
	return c, sequence, nil
}

// get returns one check, or sqlitedb.ErrNotFound.
func (s *store) get(ctx context.Context, from sqlitedb.Querier, name string) (*creditv1.Check, error) {
	return checkRows.One(ctx, from, `WHERE name = ?`, name)
}

// last returns a person's newest check, in any state, or sqlitedb.ErrNotFound. A reused check is as old as the
// original.
func (s *store) last(ctx context.Context, r *creditv1.GetLastCheckRequest) (*creditv1.Check, error) {
	const rest = ` AND (?2 = '' OR customer <> ?2) ORDER BY check_time DESC, sequence DESC LIMIT 1`
	switch {
	case nationalID.MatchString(r.GetNationalId()):
		return checkRows.One(ctx, s.DB, `WHERE national_id = ?1`+rest, r.GetNationalId(), r.GetExceptCustomer())
	case r.GetNationalId() == "" && r.GetCustomer() != "":
		return checkRows.One(ctx, s.DB, `WHERE customer = ?1 AND customer <> ''`+rest, r.GetCustomer(),
			r.GetExceptCustomer())
	default:
		return nil, sqlitedb.ErrNotFound
	}
}

// list returns one page of checks and the token of the next page.
func (s *store) list(ctx context.Context, page paging.Page) ([]*creditv1.Check, string, error) {
	return checkRows.Page(ctx, s.DB, page, `true`)
}

// add adds a passed check.
func (s *store) add(ctx context.Context, tx *inbox.Tx, c *creditv1.Check) error {
	if _, err := tx.ExecContext(ctx, `
		INSERT INTO checks (name, state, national_id, approved_limit_cents, check_time, customer)
		VALUES (?, 'PASSED', ?, ?, ?, ?)`,
		c.GetName(), c.GetNationalId(), c.GetApprovedLimitCents(), c.GetCheckTime().AsTime().UnixMicro(),
		c.GetCustomer()); err != nil {
		return fmt.Errorf("adding a check: %w", err)
	}
	return nil
}

// abandon marks a check as abandoned.
func (s *store) abandon(ctx context.Context, tx *inbox.Tx, name string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE checks SET state = 'ABANDONED' WHERE name = ?`, name); err != nil {
		return fmt.Errorf("abandoning a check: %w", err)
	}
	return nil
}

// remove removes a check. It may be gone.
func (s *store) remove(ctx context.Context, tx *inbox.Tx, name string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM checks WHERE name = ?`, name); err != nil {
		return fmt.Errorf("removing a check: %w", err)
	}
	return nil
}
