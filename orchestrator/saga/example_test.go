package saga_test

import (
	"fmt"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// mover is saga code that takes another path when a command is refused for a known reason.
type mover struct{}

func (mover) ChangeAddress(
	ctx saga.Context, in *customerv1.ChangeAddressSagaRequest,
) (*customerv1.AddressAgreed, error) {
	change := &customerv1.ChangeAddressRequest{Customer: in.GetCustomer(), Address: in.GetAddress()}
	_, err := customerv1saga.ChangeAddress(ctx, change)
	if _, closed := saga.Rejection[*customerv1.CustomerClosed](err); closed {
		return &customerv1.AddressAgreed{Customer: in.GetCustomer()}, nil // the customer has left
	}
	if err != nil {
		return nil, err // compensates the saga
	}
	return &customerv1.AddressAgreed{Customer: in.GetCustomer(), Address: in.GetAddress()}, nil
}

// printer prints the names of the definitions that it receives. A program passes an orchestrator instead.
type printer struct{}

func (printer) RegisterSaga(d saga.Definition) { fmt.Println(d.Name) }

func Example() {
	customerv1saga.RegisterCustomerSagas(printer{}, mover{})
	// Output: acme.customer.v1.CustomerSagas/ChangeAddress
}
