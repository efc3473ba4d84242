package main

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
)

// DeleteUserData deletes a customer's cards and all addresses that they were ever posted to.
func (s *service) DeleteUserData(
	ctx context.Context, r *privacyv1.DeleteUserDataRequest,
) (*privacyv1.UserDataDeleted, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*privacyv1.UserDataDeleted, error) {
		if r.GetCustomer() == "" {
			return nil, status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
		}
		deleted, err := forgotten.Delete(ctx, tx, r.GetCustomer(),
			forgotten.Deletion{Kind: "cards", Statement: `DELETE FROM cards WHERE customer = ?`},
			forgotten.Deletion{Kind: "postal addresses", Statement: `DELETE FROM postal_addresses WHERE customer = ?`})
		if err != nil {
			return nil, err
		}
		return deleted, forgotten.Add(ctx, tx, r.GetCustomer())
	})
}
