// Package order has sagas that send commands in an order that their kinds forbid.
package order

import (
	"errors"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	"github.com/treatyhq/treaty/gen/acme/notification/v1/notificationv1saga"
	"github.com/treatyhq/treaty/gen/acme/privacy/v1/privacyv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
	"github.com/treatyhq/treaty/orchestrator/saga/sagavet/testdata/shared"
)

func afterPivot(ctx saga.Context) error {
	if _, err := cardv1saga.IssueCard(ctx, nil); err != nil {
		return err
	}
	_, err := customerv1saga.CreateCustomer(ctx, nil) // want `CreateCustomer is compensatable, and nothing is compensated after IssueCard.*\(order\)`
	return err
}

func afterPivotInBranch(ctx saga.Context) error {
	card, err := cardv1saga.IssueCard(ctx, nil)
	if err != nil {
		return err
	}
	return saga.All(ctx,
		func(ctx saga.Context) error {
			_, err := notificationv1saga.SendWelcome(ctx, nil)
			return err
		},
		func(ctx saga.Context) error {
			if card.GetLastFour() == "" {
				return nil
			}
			_, err := cardv1saga.ChangePostalAddress(ctx, nil) // want `ChangePostalAddress is compensatable.*after IssueCard.*\(order\)`
			return err
		})
}

func afterRetriable(ctx saga.Context) error {
	if _, err := notificationv1saga.SendWelcome(ctx, nil); err != nil {
		return err
	}
	if _, err := cardv1saga.IssueCard(ctx, nil); err != nil { // want `IssueCard is a pivot, and a saga has one point of no return, which SendWelcome has passed.*\(order\)`
		return err
	}
	_, err := customerv1saga.CreateCustomer(ctx, nil) // want `CreateCustomer is compensatable.*after SendWelcome.*\(order\)`
	return err
}

func afterBroadcast(ctx saga.Context) error {
	if _, err := privacyv1saga.DeleteUserData(ctx, nil); err != nil {
		return err
	}
	_, err := customerv1saga.CreateCustomer(ctx, nil) // want `CreateCustomer is compensatable.*after DeleteUserData.*\(order\)`
	return err
}

func twice(ctx saga.Context) error {
	_, err := cardv1saga.IssueCard(ctx, nil)
	if err == nil {
		_, err = cardv1saga.IssueCard(ctx, nil) // want `IssueCard is a pivot, and a saga has one point of no return, which IssueCard has passed.*\(order\)`
	}
	return err
}

func issue(ctx saga.Context) error {
	_, err := cardv1saga.IssueCard(ctx, nil)
	if err != nil {
		return err
	}
	return nil
}

func create(ctx saga.Context) error {
	if _, err := customerv1saga.GetCustomer(ctx, nil); err != nil {
		return err
	}
	_, err := customerv1saga.CreateCustomer(ctx, nil)
	return err
}

func byHelpers(ctx saga.Context) error {
	if err := issue(ctx); err != nil {
		return err
	}
	if err := create(ctx); err != nil { // want `create sends CreateCustomer, which is compensatable, and nothing is compensated after IssueCard.*\(order\)`
		return err
	}
	return shared.Create(ctx) // want `Create sends CreateCustomer, which is compensatable.*after IssueCard.*\(order\)`
}

func byHelperElsewhere(ctx saga.Context) error {
	if err := saga.Try(ctx, shared.Issue); err != nil {
		return err
	}
	return saga.Try(ctx, create) // want `create sends CreateCustomer.*after IssueCard.*\(order\)`
}

func inScope(ctx saga.Context) error {
	err := saga.Try(ctx, func(ctx saga.Context) error {
		_, err := cardv1saga.IssueCard(ctx, nil)
		return err
	})
	if err != nil {
		return err
	}
	return create(ctx) // want `create sends CreateCustomer.*after IssueCard.*\(order\)`
}

func pivotInBranch(ctx saga.Context, people []string) error {
	if err := saga.All(ctx, issue); err != nil { // want `IssueCard is a pivot, and can't be in a parallel branch.*\(branch-order\)`
		return err
	}
	return saga.Each(ctx, people, func(ctx saga.Context, _ string) error {
		if err := shared.Issue(ctx); err != nil { // want `IssueCard is a pivot, and can't be in a parallel branch.*\(branch-order\)`
			return err
		}
		_, err := cardv1saga.IssueCard(ctx, nil) // want `IssueCard is a pivot, and can't be in a parallel branch.*\(branch-order\)`
		return err
	})
}

// Sagas implements a saga that begins with a retriable command in a branch.
type Sagas struct{}

var _ cardv1saga.CardSagas = Sagas{}

// IssueCard sends a retriable command before its pivot, in parallel.
func (Sagas) IssueCard(ctx saga.Context, _ *cardv1.IssueCardSagaRequest) (*cardv1.CardGranted, error) {
	if err := saga.All(ctx,
		func(ctx saga.Context) error {
			_, err := notificationv1saga.SendWelcome(ctx, nil) // want `SendWelcome is retriable, and a parallel branch might still fail.*\(branch-order\)`
			return err
		},
		create); err != nil {
		return nil, err
	}
	return &cardv1.CardGranted{}, nil
}

// The rest is fine.

func compensates(ctx saga.Context) error {
	if err := create(ctx); err != nil {
		return err
	}
	if err := issue(ctx); err != nil {
		if _, limit := saga.Rejection[*cardv1.LimitNotOffered](err); limit {
			return create(ctx) // the pivot was refused
		}
		return err
	}
	_, err := notificationv1saga.SendWelcome(ctx, nil)
	return err
}

func refused(ctx saga.Context) error {
	_, err := cardv1saga.IssueCard(ctx, nil)
	if err != nil {
		_, err = customerv1saga.CreateCustomer(ctx, nil) // the pivot was refused
		return err
	}
	return nil
}

func maybeRefused(ctx saga.Context) error {
	_, err := cardv1saga.IssueCard(ctx, nil)
	if err != nil && !errors.Is(err, saga.ErrTimeout) {
		return err
	}
	return create(ctx)
}

func oneOfTwo(ctx saga.Context, card bool) error {
	if card {
		if err := issue(ctx); err != nil {
			return err
		}
	} else if err := create(ctx); err != nil {
		return err
	}
	return maybe(ctx)
}

func maybe(ctx saga.Context) error {
	if ctx.Saga() == "" {
		return create(ctx)
	}
	return nil
}

func maybeAfter(ctx saga.Context) error {
	if err := issue(ctx); err != nil {
		return err
	}
	return maybe(ctx)
}

func switched(ctx saga.Context, kind int) error {
	switch kind {
	case 1:
		return issue(ctx)
	case 2:
		if err := create(ctx); err != nil {
			return err
		}
	}
	return create(ctx)
}

func welcomeAll(ctx saga.Context, people []string) error {
	return saga.Each(ctx, people, func(ctx saga.Context, _ string) error {
		_, err := notificationv1saga.SendWelcome(ctx, nil) // only sagas past their pivot call it
		return err
	})
}
