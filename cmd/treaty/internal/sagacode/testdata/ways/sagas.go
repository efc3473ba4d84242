// Package ways has sagas that send commands in all ways that Go knows.
package ways

import (
	"errors"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	"github.com/treatyhq/treaty/gen/acme/credit/v1/creditv1saga"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/gen/acme/privacy/v1/privacyv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"

	"github.com/treatyhq/treaty/cmd/treaty/internal/sagacode/testdata/ways/steps"
)

// Register registers the sagas.
func Register(r saga.Registrar) {
	cardv1saga.RegisterCardSagas(r, &sagas{base: base{}})
	customerv1saga.RegisterReviewSagas(r, reviews{})
	identityv1saga.RegisterIdentitySagas(r, reviews{})
	saga.Register(r, customerv1.CustomerSagas_ChangeAddress_FullMethodName, func(
		ctx saga.Context, in *customerv1.ChangeAddressSagaRequest,
	) (*customerv1.AddressAgreed, error) {
		_, err := customerv1saga.ChangeAddress(ctx, nil)
		if closed, ok := saga.Rejection[*customerv1.CustomerClosed](err); ok {
			return nil, errors.New(closed.GetCustomer())
		}
		return nil, err
	})
	saga.Register(r, privacyv1.PrivacySagas_DeleteUserData_FullMethodName, deleteUserData)
}

// base has the code of a saga in a struct that another one embeds.
type base struct{}

// IssueCard starts a child saga, calls a helper in another package, a method, and an implementation of an interface.
func (b *base) IssueCard(ctx saga.Context, _ *cardv1.IssueCardSagaRequest) (*cardv1.CardGranted, error) {
	if _, err := identityv1saga.VerifyApplicant(ctx, nil); err != nil {
		return nil, err
	}
	if err := saga.All(ctx, func(ctx saga.Context) error { return steps.Create(ctx) }, b.check); err != nil {
		return nil, err
	}
	var by steps.Issuer = issuer{}
	return nil, by.Issue(ctx)
}

func (b *base) check(ctx saga.Context) error {
	_, err := creditv1saga.CheckCredit(ctx, nil)
	if refusedWith[*creditv1.CreditDeclined](err) {
		return nil
	}
	return err
}

type sagas struct{ base }

type issuer struct{}

// Issue looks for two rejections by their types.
func (issuer) Issue(ctx saga.Context) error {
	_, err := cardv1saga.IssueCard(ctx, nil)
	for _, detail := range status.Convert(err).Details() {
		switch detail.(type) {
		case *cardv1.AddressNotServed:
			return nil
		}
		if _, ok := detail.(*cardv1.LimitNotOffered); ok {
			return nil
		}
	}
	return err
}

// refusedWith looks for any rejection.
func refusedWith[T proto.Message](err error) bool {
	_, ok := saga.Rejection[T](err)
	return ok
}

// reviewing is a table of functions.
var reviewing = []func(saga.Context) error{lastCheck, steps.Get}

func lastCheck(ctx saga.Context) error {
	_, err := creditv1saga.GetLastCheck(ctx, nil)
	return err
}

type reviews struct{}

// ReviewCustomer calls the functions of a table, and looks for a rejection that no command declares.
func (reviews) ReviewCustomer(
	ctx saga.Context, _ *customerv1.ReviewCustomerRequest,
) (*customerv1.CustomerReviewed, error) {
	for _, review := range reviewing {
		if _, ok := saga.Rejection[*customerv1.EmailTaken](review(ctx)); ok {
			return nil, nil
		}
	}
	return nil, nil
}

// VerifyApplicant is a saga that another one starts.
func (reviews) VerifyApplicant(
	ctx saga.Context, _ *identityv1.VerifyApplicantRequest,
) (*identityv1.ApplicantConfirmed, error) {
	_, err := identityv1saga.RegisterApplicant(ctx, nil)
	return nil, err
}

func deleteUserData(ctx saga.Context, in *privacyv1.DeleteUserDataSagaRequest) (*privacyv1.UserForgotten, error) {
	_, err := privacyv1saga.DeleteUserData(ctx, nil)
	return nil, err
}

// unused is called by no saga.
func unused(ctx saga.Context) error {
	_, err := identityv1saga.InspectPassport(ctx, nil)
	return err
}
