package pgxinbox

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/treatyhq/treaty/participant/inbox"
)

// Tx is the transaction of a handler. It has the methods of pgx.Tx that run statements, so it fits code that is
// generated for pgx, such as sqlc's DBTX. It has neither Commit nor Rollback, because the inbox ends the transaction
// together with the command's answer.
//
// Like a connection of pgx, it isn't for concurrent use, and rows must be read or closed before the next statement. It
// can be used until the handler returns; then what it has left open is closed, and its methods return an error that
// wraps [sql.ErrTxDone].
type Tx struct {
	inner *inbox.Tx
	conn  *pgx.Conn
	ended bool

	left    func() error // Closes what the last statement returned, and returns its error.
	failure error        // The first error of a statement.
}

// Exec runs a statement that returns no rows, as [pgx.Tx] does.
func (t *Tx) Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error) {
	if err := t.usable(); err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := t.conn.Exec(ctx, query, args...)
	return tag, t.note(err)
}

// Query runs a statement that returns rows, as [pgx.Tx] does.
func (t *Tx) Query(ctx context.Context, query string, args ...any) (pgx.Rows, error) {
	if err := t.usable(); err != nil {
		return failed{err: err}, err
	}
	rows, err := t.conn.Query(ctx, query, args...)
	t.left = func() error {
		rows.Close()
		return rows.Err()
	}
	return rows, t.note(err)
}

// QueryRow runs a statement that returns at most one row, as [pgx.Tx] does.
func (t *Tx) QueryRow(ctx context.Context, query string, args ...any) pgx.Row {
	rows, err := t.Query(ctx, query, args...)
	return row{tx: t, rows: rows, err: err}
}

// SendBatch sends statements together, as [pgx.Tx] does. Close what it returns before the next statement.
func (t *Tx) SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults {
	if err := t.usable(); err != nil {
		return failedBatch{err: err}
	}
	results := t.conn.SendBatch(ctx, batch)
	t.left = results.Close
	return results
}

// CopyFrom copies rows into a table, as [pgx.Tx] does.
func (t *Tx) CopyFrom(
	ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource,
) (int64, error) {
	if err := t.usable(); err != nil {
		return 0, err
	}
	n, err := t.conn.CopyFrom(ctx, table, columns, source)
	return n, t.note(err)
}

// usable returns an error if the handler has returned.
func (t *Tx) usable() error {
	if t.ended {
		return fmt.Errorf("the handler has returned, so its transaction takes no more statements: let it wait for the "+
			"goroutines that it starts: %w", sql.ErrTxDone)
	}
	return nil
}

// note remembers the first error of a statement, and returns its argument.
func (t *Tx) note(err error) error {
	t.failure = cmp.Or(t.failure, err)
	return err
}

// finish closes what the handler has left open.
func (t *Tx) finish() error {
	if t.left == nil {
		return nil
	}
	left := t.left
	t.left = nil
	return t.note(left())
}

// row is what QueryRow returns.
type row struct {
	tx   *Tx
	rows pgx.Rows
	err  error
}

// Scan implements pgx.Row.
func (r row) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		return r.tx.note(cmp.Or(r.rows.Err(), pgx.ErrNoRows))
	}
	if err := r.rows.Scan(into...); err != nil {
		return err
	}
	r.rows.Close()
	return r.tx.note(r.rows.Err())
}

// failed are the rows of a statement that wasn't executed.
type failed struct {
	pgx.Rows

	err error
}

// Close implements pgx.Rows.
func (failed) Close() {}

// Err implements pgx.Rows.
func (f failed) Err() error { return f.err }

// Next implements pgx.Rows.
func (failed) Next() bool { return false }

// Scan implements pgx.Rows.
func (f failed) Scan(...any) error { return f.err }

// failedBatch are the results of statements that weren't executed.
type failedBatch struct {
	pgx.BatchResults

	err error
}

// Exec implements pgx.BatchResults.
func (f failedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, f.err }

// Query implements pgx.BatchResults.
func (f failedBatch) Query() (pgx.Rows, error) { return failed{err: f.err}, f.err }

// QueryRow implements pgx.BatchResults.
func (f failedBatch) QueryRow() pgx.Row { return row{err: f.err} }

// Close implements pgx.BatchResults.
func (f failedBatch) Close() error { return f.err }
