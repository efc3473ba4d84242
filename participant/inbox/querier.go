package inbox

import (
	"context"
	"database/sql"
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
