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

// entry is a row of a participant's inbox, as it is stored.
type entry struct {
	audit.Row

	// method is the method that was called, "/package.Service/Method".
	method string

	// reply is the serialized reply of an executed command.
	reply []byte
}

// database is a participant's database, opened to be read.
type database struct {
	*sql.DB

	service string
}

// openDatabase opens a participant's database, or another file beside it. The participant may be running, as long as it
// is idle.
func (c *Company) openDatabase(service, suffix string) (*database, error) {
	path := c.Database(service) + suffix
	db, err := sql.Open("sqlite3", "file:"+(&url.URL{Path: filepath.ToSlash(path)}).EscapedPath()+"?mode=rw&_pragma=busy_timeout(10000)")
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
		SELECT sequence, command_id, direction, method, verdict, reply, executed_at, duplicates FROM treaty_inbox ORDER BY sequence`,
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

// effects reads what a participant's own tables hold. The query's columns are the resource and whether it is undone.
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

// Attempted returns what a participant's ledger says of one command in one direction: its verdict, and how many calls
// got the stored answer. False: it never came.
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
