package main

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/services/internal/forgotten"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// DeleteUserData removes the person from the checks. The checks themselves stay on file, as the law requires.
func (s *service) DeleteUserData(
	ctx context.Context, r *privacyv1.DeleteUserDataRequest,
) (*privacyv1.UserDataDeleted, error) {
	return inbox.Handle(ctx, s.store.Inbox, func(tx *inbox.Tx) (*privacyv1.UserDataDeleted, error) {
		if !customerName.MatchString(r.GetCustomer()) {
			return nil, status.Error(codes.InvalidArgument, "customer: want customers/{customer}")
		}
		if err := forgotten.Add(ctx, tx, r.GetCustomer()); err != nil {
			return nil, err
		}
		n, err := s.store.anonymize(ctx, tx, r.GetCustomer())
		if err != nil || n == 0 {
			return &privacyv1.UserDataDeleted{}, err
		}
		return &privacyv1.UserDataDeleted{Erased: []*privacyv1.ErasedRecords{{Kind: "checks", Anonymized: n}}}, nil
	})
}

// anonymous starts the placeholder for the national id of a person who was forgotten. No real national id does.
const anonymous = "#"

// isAnonymous returns whether the person of a check was forgotten.
func isAnonymous(check *creditv1.Check) bool {
	return strings.HasPrefix(check.GetNationalId(), anonymous)
}

// anonymize removes a person from their checks, including checks from before they became this customer, and returns how
// many checks that were.
func (s *store) anonymize(ctx context.Context, tx *inbox.Tx, customer string) (int64, error) {
	n, err := sqlitedb.Count(ctx, tx, `
		UPDATE checks SET national_id = ?2 || sequence, customer = ''
		WHERE national_id IN (SELECT national_id FROM checks WHERE customer = ?1 AND customer <> '')`,
		customer, anonymous)
	if err != nil {
		return 0, fmt.Errorf("anonymizing checks: %w", err)
	}
	return n, nil
}
