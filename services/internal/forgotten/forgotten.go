// Package forgotten deletes customers' data and remembers, in the service's own database, which customers were
// forgotten. A saga that was in flight at that time may still send a command about such a customer. The command would
// store data about the person again, so the service refuses it.
package forgotten

import (
	"context"
	"database/sql"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// SQLiteSchema creates the table. It is one of the migrations of a service's database.
const SQLiteSchema = `
CREATE TABLE forgotten (customer TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
`

// Executor is a database or a transaction.
type Executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Add remembers that a customer was forgotten. Call it in the transaction that deletes the customer's data.
func Add(ctx context.Context, x Executor, customer string) error {
	if _, err := x.ExecContext(ctx,
		`INSERT INTO forgotten (customer) VALUES (?) ON CONFLICT DO NOTHING`, customer); err != nil {
		return fmt.Errorf("remembering that a customer was forgotten: %w", err)
	}
	return nil
}

// Has reports whether a customer was forgotten.
func Has(ctx context.Context, q sqlitedb.Querier, customer string) (found bool, err error) {
	if err := q.QueryRowContext(ctx,
		`SELECT EXISTS (SELECT * FROM forgotten WHERE customer = ?)`, customer).Scan(&found); err != nil {
		return false, fmt.Errorf("looking up whether a customer was forgotten: %w", err)
	}
	return found, nil
}

// Refuse returns the refusal of a command that would store something about a forgotten customer, or nil if the customer
// wasn't forgotten.
func Refuse(ctx context.Context, q sqlitedb.Querier, customer string) error {
	found, err := Has(ctx, q, customer)
	if err != nil || !found {
		return err
	}
	return status.Error(codes.FailedPrecondition, "the customer was forgotten")
}

// Deletion deletes one kind of record about a customer.
type Deletion struct {
	// Kind names the records, for example "cards".
	Kind string

	// Statement deletes them. Its one parameter is the customer.
	Statement string
}

// Delete runs deletions in order, and returns what they deleted.
func Delete(
	ctx context.Context, tx *inbox.Tx, customer string, deletions ...Deletion,
) (*privacyv1.UserDataDeleted, error) {
	deleted := &privacyv1.UserDataDeleted{}
	for _, d := range deletions {
		n, err := sqlitedb.Count(ctx, tx, d.Statement, customer)
		if err != nil {
			return nil, fmt.Errorf("deleting %s: %w", d.Kind, err)
		}
		if n > 0 {
			deleted.Erased = append(deleted.Erased, &privacyv1.ErasedRecords{Kind: d.Kind, Deleted: n})
		}
	}
	return deleted, nil
}
