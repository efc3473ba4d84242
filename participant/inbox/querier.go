package inbox

import (
	"context"
	"database/sql"
	"errors"
)

// querier executes statements in a transaction: a *sql.Tx, or the *sql.Conn on which a batch runs.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// detached executes the inbox's own statements in a batch: without the contexts of calls, so that none is interrupted.
type detached struct{ committer *committer }

// ExecContext implements querier. It goes around package sql, which prepares each statement.
func (d detached) ExecContext(_ context.Context, query string, args ...any) (result sql.Result, err error) {
	err = d.committer.conn.Raw(func(any) (err error) {
		result, err = d.committer.raw.exec(query, args)
		return err
	})
	return result, err
}

// PrepareContext implements querier.
func (d detached) PrepareContext(_ context.Context, query string) (*sql.Stmt, error) {
	return d.committer.conn.PrepareContext(context.Background(), query)
}

// QueryContext implements querier.
func (d detached) QueryContext(_ context.Context, query string, args ...any) (*sql.Rows, error) {
	return d.committer.conn.QueryContext(context.Background(), query, args...)
}

// QueryRowContext implements querier.
func (d detached) QueryRowContext(_ context.Context, query string, args ...any) *sql.Row {
	return d.committer.conn.QueryRowContext(context.Background(), query, args...)
}

// eachRow calls f with each row of a query, whose values are int64, string, []byte or nil. They are valid until f
// returns.
func eachRow(ctx context.Context, tx querier, query string, args []any, f func(row []any)) (err error) {
	if u, ok := tx.(*unit); ok && u.batch != nil {
		c := u.batch.committer
		return c.conn.Raw(func(any) error { return c.raw.eachRow(query, args, f) })
	}
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	row, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range row {
		into[i] = &row[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		f(row)
	}
	return rows.Err()
}

// textOf returns the text of a value.
func textOf(value any) string {
	switch value := value.(type) {
	case string:
		return value
	case []byte:
		return string(value)
	default:
		return ""
	}
}
