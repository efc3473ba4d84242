package company

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver

	"github.com/treatyhq/treaty/services/demo/audit"
)

// entry is a row of a participant's inbox.
type entry struct {
	audit.Row

	// method is the called method, "/package.Service/Method".
	method string

	// reply is the serialized reply of an executed command.
	reply []byte
}

// database is a participant's database, opened for reading.
type database struct {
	*sql.DB

	service string
}

// openDatabase opens a participant's database, or another file next to it. The participant may be running if it is
// idle.
func (c *Company) openDatabase(service, suffix string) (*database, error) {
	path := c.Database(service) + suffix
	escaped := (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath()
	db, err := sql.Open("sqlite3", "file:"+escaped+"?mode=rw&_pragma=busy_timeout(10000)")
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return &database{DB: db, service: service}, nil
}

// query calls scan for each row of a query.
func (d *database) query(ctx context.Context, query string, scan func(*sql.Rows) error) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("reading the database of %s: %w", d.service, err)
		}
	}()
	rows, err := d.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// ledger reads a participant's inbox, oldest first.
func (d *database) ledger(ctx context.Context) ([]entry, error) {
	var entries []entry
	err := d.query(ctx, `
		SELECT sequence, command_id, direction, method, verdict, reply, executed_at, duplicates
		FROM treaty_inbox ORDER BY sequence`,
		func(rows *sql.Rows) error {
			var e entry
			var micros int64
			if err := rows.Scan(&e.Sequence, &e.CommandID, &e.Direction, &e.method, &e.Verdict, &e.reply, &micros,
				&e.Duplicates); err != nil {
				return err
			}
			e.Time = time.UnixMicro(micros)
			entries = append(entries, e)
			return nil
		})
	return entries, err
}

// effects reads a participant's own tables. The columns of the query are the resource and whether it is undone.
func (d *database) effects(ctx context.Context, query string) ([]audit.Effect, error) {
	var effects []audit.Effect
	err := d.query(ctx, query, func(rows *sql.Rows) error {
		e := audit.Effect{Service: d.service}
		if err := rows.Scan(&e.Resource, &e.Undone); err != nil {
			return err
		}
		effects = append(effects, e)
		return nil
	})
	return effects, err
}

// Attempted returns the verdict of a participant's ledger on one command in one direction, and how many calls got the
// stored answer. It returns false if the command never arrived.
func (c *Company) Attempted(
	ctx context.Context, service, commandID string, direction audit.Direction,
) (row audit.Row, found bool, err error) {
	db, err := c.openDatabase(service, "")
	if err != nil {
		return row, false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	entries, err := db.ledger(ctx)
	for _, e := range entries {
		if e.CommandID == commandID && e.Direction == direction {
			return e.Row, true, err
		}
	}
	return row, false, err
}
