package sqlitedb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/treatyhq/treaty/services/internal/paging"
)

// ErrNotFound is returned by [One] if no row matches.
var ErrNotFound = errors.New("not found")

// Querier is a database or a transaction.
type Querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Query selects rows that become values of type T.
type Query[T any] struct {
	// Kind says in errors what the rows are, for example "cards".
	Kind string

	// Select is the SELECT and FROM of the query. The rows must have a column "sequence".
	Select string

	// Scan makes a value from a row, and returns the row's sequence number with it.
	Scan func(scan func(...any) error) (value T, sequence int64, err error)
}

// One returns the first row that satisfies the rest of the query, such as "WHERE name = ?", or ErrNotFound.
func (q Query[T]) One(ctx context.Context, db Querier, rest string, args ...any) (T, error) {
	var none T
	value, _, err := q.Scan(db.QueryRowContext(ctx, q.Select+" "+rest, args...).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return none, ErrNotFound
	}
	if err != nil {
		return none, fmt.Errorf("reading %s: %w", q.Kind, err)
	}
	return value, nil
}

// Page returns one page of the rows that satisfy a condition, in the order of their sequence numbers, and the token of
// the next page.
func (q Query[T]) Page(
	ctx context.Context, db *sql.DB, page paging.Page, condition string, args ...any,
) (values []T, next string, err error) {
	// One row more than the page holds shows whether there is a next page.
	rows, err := db.QueryContext(ctx,
		q.Select+` WHERE sequence > ? AND (`+condition+`) ORDER BY sequence LIMIT ?`,
		append(append([]any{page.After}, args...), page.Size+1)...)
	if err != nil {
		return nil, "", fmt.Errorf("listing %s: %w", q.Kind, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var last int64
	for rows.Next() {
		if len(values) == page.Size {
			next = page.Next(last)
			break
		}
		value, sequence, err := q.Scan(rows.Scan)
		if err != nil {
			return nil, "", fmt.Errorf("listing %s: %w", q.Kind, err)
		}
		values, last = append(values, value), sequence
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("listing %s: %w", q.Kind, err)
	}
	return values, next, nil
}

// Execer is a transaction, of an inbox's handler or another one.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Count runs a statement and returns how many rows it changed.
func Count(ctx context.Context, tx Execer, statement string, args ...any) (int64, error) {
	result, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
