package saga_test

import (
	"fmt"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// mover is saga code. A refusal with a typed reason lets it take another way.
type mover struct{}

func (mover) ChangeAddress(ctx saga.Context, in *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
	_, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{Customer: in.GetCustomer(), Address: in.GetAddress()})
	if _, closed := saga.Rejection[*customerv1.CustomerClosed](err); closed {
		return &customerv1.AddressAgreed{Customer: in.GetCustomer()}, nil // nobody to write to any more
	}
	if err != nil {
		return nil, err // undoes the saga
	}
	return &customerv1.AddressAgreed{Customer: in.GetCustomer(), Address: in.GetAddress()}, nil
}

// names prints what is registered; an orchestrator takes it instead.
type names struct{}

func (names) RegisterSaga(d saga.Definition) { fmt.Println(d.Name) }

func Example() {
	customerv1saga.RegisterCustomerSagas(names{}, mover{})
	// Output: acme.customer.v1.CustomerSagas/ChangeAddress
}
