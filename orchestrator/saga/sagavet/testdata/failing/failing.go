// Package failing has sagas that hide what failed.
package failing

import (
	"errors"
	"fmt"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

func move(ctx saga.Context, customer string) error {
	_, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{Customer: customer})
	return err
}

func ignored(ctx saga.Context) error {
	customerv1saga.CreateCustomer(ctx, nil)               // want `the error of customerv1saga\.CreateCustomer is ignored.*\(ignored-error\)`
	created, _ := customerv1saga.CreateCustomer(ctx, nil) // want `the error of customerv1saga\.CreateCustomer is ignored.*\(ignored-error\)`
	_ = move(ctx, created.GetCustomer())                  // want `the error of move is ignored.*\(ignored-error\)`
	saga.Try(ctx, func(ctx saga.Context) error {          // want `the error of saga\.Try is ignored.*\(ignored-error\)`
		return move(ctx, "a")
	})
	saga.Restart(ctx, nil) // want `the error of saga\.Restart is ignored.*\(ignored-error\)`
	return nil
}

func overwritten(ctx saga.Context) error {
	created, err := customerv1saga.CreateCustomer(ctx, nil) // want `the error of customerv1saga\.CreateCustomer is ignored.*\(ignored-error\)`
	err = move(ctx, created.GetCustomer())
	return err
}

func handled(ctx saga.Context) error {
	created, err := customerv1saga.CreateCustomer(ctx, nil)
	if _, taken := saga.Rejection[*customerv1.EmailTaken](err); taken {
		created, err = customerv1saga.CreateCustomer(ctx, nil)
	}
	if err == nil {
		err = move(ctx, created.GetCustomer())
	}
	if err := move(ctx, "a"); err != nil {
		return fmt.Errorf("moving: %w", err)
	}
	failed := move(ctx, "b")
	failed = errors.Join(failed, move(ctx, "c"))
	return errors.Join(err, failed)
}

func deferred(ctx saga.Context) error {
	defer move(ctx, "home")                       // want `a deferred call with a Context also runs when a waiting saga is evicted.*\(defer\)`
	defer customerv1saga.CreateCustomer(ctx, nil) // want `a deferred call with a Context .*\(defer\)`
	defer saga.Sleep(ctx, 1)                      // want `a deferred call with a Context .*\(defer\)`
	defer fmt.Sprint("fine")
	return nil
}

func recovers(ctx saga.Context) (err error) {
	defer func() {
		if r := recover(); r != nil { // want `recover also catches what stops saga code at a wait.*\(recover\)`
			err = fmt.Errorf("%v", r)
		}
	}()
	defer rescue()
	return move(ctx, "a")
}

func rescue() { _ = recover() } // want `recover also catches .*\(recover\)`

func quietly(_ saga.Context, run func()) {
	func() {
		defer func() { recover() }() // want `recover also catches .*\(recover\)`
		run()
	}()
}

func passesOn(_ saga.Context, run func()) {
	defer func() {
		if r := recover(); r != nil {
			panic(fmt.Sprint("again: ", r))
		}
	}()
	run()
}

// Sagas implements sagas that return nothing.
type Sagas struct{ identities }

// ChangeAddress returns nothing in some cases.
func (Sagas) ChangeAddress(
	ctx saga.Context, in *customerv1.ChangeAddressSagaRequest,
) (*customerv1.AddressAgreed, error) {
	if in.GetAddress() == nil {
		return nil, nil // want `the saga returns neither a reply nor an error, and is suspended.*\(nil-reply\)`
	}
	if err := move(ctx, in.GetCustomer()); err != nil {
		return nil, err
	}
	if one, err := find(ctx); one == nil {
		return nil, err
	}
	return &customerv1.AddressAgreed{}, nil
}

// ReviewCustomer returns nothing.
func (s *Sagas) ReviewCustomer(
	ctx saga.Context, in *customerv1.ReviewCustomerRequest,
) (*customerv1.CustomerReviewed, error) {
	if in.GetRoundsLeft() > 0 {
		return nil, saga.Restart(ctx, in)
	}
	return nil, nil // want `the saga returns neither a reply nor an error.*\(nil-reply\)`
}

type identities struct{}

// VerifyApplicant returns nothing, in a type that another one embeds.
func (identities) VerifyApplicant(
	saga.Context, *identityv1.VerifyApplicantRequest,
) (*identityv1.ApplicantConfirmed, error) {
	return nil, nil // want `the saga returns neither a reply nor an error.*\(nil-reply\)`
}

var _ identityv1saga.IdentitySagas = Sagas{}

// find returns nothing if there is nothing. It is no saga.
func find(_ saga.Context) (*customerv1.Customer, error) { return nil, nil }
