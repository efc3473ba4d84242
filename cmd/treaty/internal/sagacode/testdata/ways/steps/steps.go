// Package steps has helpers of sagas.
package steps

import (
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// Issuer issues something.
type Issuer interface {
	Issue(ctx saga.Context) error
}

// Create creates a customer.
func Create(ctx saga.Context) error {
	_, err := customerv1saga.CreateCustomer(ctx, nil)
	return err
}

// Get gets a customer.
func Get(ctx saga.Context) error {
	_, err := customerv1saga.GetCustomer(ctx, nil)
	return err
}
