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

// detached executes statements without the contexts of calls, so that none is interrupted.
type detached struct{ querier }

// ExecContext implements querier.
func (d detached) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	return d.querier.ExecContext(context.Background(), query, args...)
}

// PrepareContext implements querier.
func (d detached) PrepareContext(_ context.Context, query string) (*sql.Stmt, error) {
	return d.querier.PrepareContext(context.Background(), query)
}

// QueryContext implements querier.
func (d detached) QueryContext(_ context.Context, query string, args ...any) (*sql.Rows, error) {
	return d.querier.QueryContext(context.Background(), query, args...)
}

// QueryRowContext implements querier.
func (d detached) QueryRowContext(_ context.Context, query string, args ...any) *sql.Row {
	return d.querier.QueryRowContext(context.Background(), query, args...)
}
