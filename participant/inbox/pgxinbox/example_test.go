package pgxinbox_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/participant/inbox/pgxinbox"
)

type service struct {
	customerv1.UnimplementedCustomerServiceServer

	inbox *inbox.Inbox
}

// ChangeAddress writes its effect through the transaction that it is given.
func (s *service) ChangeAddress(
	ctx context.Context, in *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	return pgxinbox.Handle(ctx, s.inbox, func(tx *pgxinbox.Tx) (*customerv1.AddressChanged, error) {
		changed := &customerv1.AddressChanged{Customer: in.GetCustomer()}
		err := tx.QueryRow(ctx, `UPDATE customers SET revision = revision + 1 WHERE name = $1 RETURNING revision`,
			in.GetCustomer()).Scan(&changed.AddressRevision)
		if err != nil {
			return nil, err // As it is: a deadlock is repeated.
		}
		return changed, nil
	})
}

// A service opens its inbox in the pool that it has anyway.
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "postgres://customers@db.invalid/customers?idle_in_transaction_session_timeout=60s")
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	in, err := pgxinbox.Open(ctx, pool, inbox.Options{Methods: []string{"acme.customer.v1.CustomerService"}})
	if err != nil {
		fmt.Println("the database of the example doesn't exist")
		return
	}
	_ = &service{inbox: in} // It is registered with a server of participant.NewServer.
	// Output: the database of the example doesn't exist
}
