package main

import (
	"context"
	"database/sql"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
)

// DeleteUserData deletes a customer's cards and all places where they were ever posted to.
func (s *service) DeleteUserData(ctx context.Context, r *privacyv1.DeleteUserDataRequest) (*privacyv1.UserDataDeleted, error) {
	return inbox.Handle(ctx, s.store.inbox, func(tx *sql.Tx) (*privacyv1.UserDataDeleted, error) {
		if r.GetCustomer() == "" {
			return nil, status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
		}
		deleted := &privacyv1.UserDataDeleted{}
		for _, from := range []struct{ kind, statement string }{
			{"cards", `DELETE FROM cards WHERE customer = ?`},
			{"postal addresses", `DELETE FROM postal_addresses WHERE customer = ?`},
		} {
			result, err := tx.ExecContext(ctx, from.statement, r.GetCustomer())
			if err != nil {
				return nil, fmt.Errorf("deleting %s: %w", from.kind, err)
			}
			n, err := result.RowsAffected()
			if err != nil {
				return nil, fmt.Errorf("deleting %s: %w", from.kind, err)
			}
			if n > 0 {
				deleted.Erased = append(deleted.Erased, &privacyv1.ErasedRecords{Kind: from.kind, Deleted: n})
			}
		}
		return deleted, forgotten.Add(ctx, tx, r.GetCustomer())
	})
}
