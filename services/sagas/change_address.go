package main

import (
	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// ChangeAddress changes a customer's address and the postal address of the customer's cards. Either both change or
// neither.
func (Sagas) ChangeAddress(
	ctx saga.Context, in *customerv1.ChangeAddressSagaRequest,
) (*customerv1.AddressAgreed, error) {
	changed, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{
		Customer: in.GetCustomer(),
		Address:  in.GetAddress(),
	})
	if err != nil {
		return nil, err
	}
	if _, err := cardv1saga.ChangePostalAddress(ctx, &cardv1.ChangePostalAddressRequest{
		Customer:        in.GetCustomer(),
		Postal:          letterTo(in.GetAddress()),
		AddressRevision: changed.GetAddressRevision(),
	}); err != nil {
		return nil, err // the customer lives at the old address again
	}
	return &customerv1.AddressAgreed{
		Customer:        in.GetCustomer(),
		Address:         in.GetAddress(),
		AddressRevision: changed.GetAddressRevision(),
	}, nil
}

// letterTo returns the postal form of an address.
func letterTo(a *customerv1.Address) *cardv1.Postal {
	return &cardv1.Postal{
		Lines: a.GetLines(), PostalCode: a.GetPostalCode(), City: a.GetCity(), Country: a.GetCountry(),
	}
}
