package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// create creates the tables unless they exist. A table of an earlier version is replaced and its rows are copied,
// because SQLite can't change a CHECK constraint.
func (l *sqliteLedger) create(ctx context.Context, db *sql.DB) (err error) {
	if s, err := schemaOf(ctx, db); err != nil || s == schemaPresent {
		return err
	}
	tx, done, err := l.begin(ctx, db, "")
	if err != nil {
		return err
	}
	defer done()
	defer func() { err = errors.Join(err, rollback(tx.Tx)) }()
	// Another process may have changed it in between.
	s, err := schemaOf(ctx, tx)
	if err != nil {
		return err
	}
	switch s {
	case schemaPresent:
		return nil
	case schemaAbsent:
		_, err = tx.ExecContext(ctx, SQLiteSchema)
	case schemaOld:
		err = renewSchema(ctx, tx.Tx)
	}
	if err != nil {
		return err
	}
	return tx.Commit()
}

// schema says which version of the table a database has.
type schema int

const (
	schemaAbsent schema = iota
	schemaOld
	schemaPresent
)

func schemaOf(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) (schema, error) {
	var table string
	const query = `SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'treaty_inbox'`
	err := db.QueryRowContext(ctx, query).Scan(&table)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return schemaAbsent, nil
	case err != nil:
		return schemaAbsent, err
	case strings.Contains(table, "'closed'"):
		return schemaPresent, nil
	default:
		return schemaOld, nil
	}
}

// renewSchema replaces the table. It keeps the rows and the sequence, which never decreases even if the newest rows
// were purged.
func renewSchema(ctx context.Context, tx *sql.Tx) error {
	for _, statement := range []string{
		`ALTER TABLE treaty_inbox RENAME TO treaty_inbox_before`,
		SQLiteSchema,
		`INSERT INTO treaty_inbox
			(sequence, command_id, direction, method, verdict, reply, epoch, attempt, executed_at, duplicates)
		 SELECT sequence, command_id, direction, method, verdict, reply, epoch, attempt, executed_at, duplicates
			FROM treaty_inbox_before`,
		`DELETE FROM sqlite_sequence WHERE name = 'treaty_inbox'`,
		`INSERT INTO sqlite_sequence (name, seq)
		 SELECT 'treaty_inbox', seq FROM sqlite_sequence WHERE name = 'treaty_inbox_before'`,
		`DROP TABLE treaty_inbox_before`,
	} {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("migrating the table of an earlier version: %w", err)
		}
	}
	return nil
}
