package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
)

// DeleteUserData deletes the applicants who are a customer, and the inspections of their passports. Like every command
// here, it goes to the register first.
func (s *service) DeleteUserData(
	ctx context.Context, r *privacyv1.DeleteUserDataRequest,
) (*privacyv1.UserDataDeleted, error) {
	if !strings.HasPrefix(r.GetCustomer(), "customers/") {
		return nil, status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
	}
	// Add comes first: any later registration is refused and withdrawn, so the keys found below are complete.
	if err := forgotten.Add(ctx, s.store.DB, r.GetCustomer()); err != nil {
		return nil, err
	}
	keys, err := s.store.registerKeys(ctx, r.GetCustomer())
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := s.register.withdraw(ctx, key); err != nil {
			return nil, unreachable(ctx, err)
		}
	}
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*privacyv1.UserDataDeleted, error) {
		return forgotten.Delete(ctx, tx, r.GetCustomer(),
			forgotten.Deletion{Kind: "inspections", Statement: `DELETE FROM inspections
				WHERE applicant IN (SELECT name FROM applicants WHERE customer = ?)`},
			forgotten.Deletion{Kind: "applicants", Statement: `DELETE FROM applicants WHERE customer = ?`})
	})
}

// registerKeys returns the keys under which a customer is registered at the register.
func (s *store) registerKeys(ctx context.Context, customer string) (keys []string, err error) {
	rows, err := s.DB.QueryContext(ctx, `SELECT register_key FROM applicants WHERE customer = ? AND register_key <> ''`,
		customer)
	if err != nil {
		return nil, fmt.Errorf("reading a customer's registrations: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, fmt.Errorf("reading a customer's registrations: %w", err)
		}
		keys = append(keys, key)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading a customer's registrations: %w", err)
	}
	return keys, nil
}
