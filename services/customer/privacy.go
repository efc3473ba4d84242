package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
)

// DeleteUserData deletes a customer with all addresses. No later command can bring the customer back: CreateCustomer
// makes a new name, and all other commands find no customer.
func (s *service) DeleteUserData(
	ctx context.Context, r *privacyv1.DeleteUserDataRequest,
) (*privacyv1.UserDataDeleted, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*privacyv1.UserDataDeleted, error) {
		if r.GetCustomer() == "" {
			return nil, status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
		}
		addresses, err := s.store.countAddresses(ctx, tx, r.GetCustomer())
		if err != nil || addresses == 0 { // A customer has at least one address.
			return &privacyv1.UserDataDeleted{}, err
		}
		return &privacyv1.UserDataDeleted{Erased: []*privacyv1.ErasedRecords{
			{Kind: "customers", Deleted: 1},
			{Kind: "addresses", Deleted: addresses},
		}}, s.store.remove(ctx, tx, r.GetCustomer())
	})
}

// countAddresses returns how many addresses a customer has, including undone ones.
func (s *store) countAddresses(ctx context.Context, tx *inbox.Tx, customer string) (n int64, err error) {
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM addresses WHERE customer = ?`,
		customer).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting addresses: %w", err)
	}
	return n, nil
}
