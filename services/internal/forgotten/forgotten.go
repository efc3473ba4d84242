// Package forgotten keeps in a service's own database which customers it was told to forget. A saga that was under way then may still send a
// command about one of them. It would bring the person back, so the service refuses it.
package forgotten

import (
	"context"
	"database/sql"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// SQLiteSchema makes the table. It is one of the migrations of a service's database.
const SQLiteSchema = `
CREATE TABLE forgotten (customer TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
`

// Executor is a database or a transaction.
type Executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Querier is a database or a transaction.
type Querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Add notes that a customer is forgotten, in the transaction that deletes what there is.
func Add(ctx context.Context, x Executor, customer string) error {
	if _, err := x.ExecContext(ctx, `INSERT INTO forgotten (customer) VALUES (?) ON CONFLICT DO NOTHING`, customer); err != nil {
		return fmt.Errorf("noting that a customer is forgotten: %w", err)
	}
	return nil
}

// Has reports whether a customer is forgotten.
func Has(ctx context.Context, q Querier, customer string) (found bool, err error) {
	if err := q.QueryRowContext(ctx, `SELECT EXISTS (SELECT * FROM forgotten WHERE customer = ?)`, customer).Scan(&found); err != nil {
		return false, fmt.Errorf("looking up whether a customer is forgotten: %w", err)
	}
	return found, nil
}

// Refuse returns the refusal of a command that would store something about a customer who is forgotten; nil when the customer isn't.
func Refuse(ctx context.Context, q Querier, customer string) error {
	found, err := Has(ctx, q, customer)
	if err != nil || !found {
		return err
	}
	return status.Error(codes.FailedPrecondition, "the customer was forgotten")
}
