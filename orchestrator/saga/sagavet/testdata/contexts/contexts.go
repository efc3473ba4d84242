// Package contexts has sagas that use a Context outside of its branch.
package contexts

import (
	"time"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

func move(ctx saga.Context, customer string) error {
	_, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{Customer: customer})
	return err
}

func branch(ctx saga.Context) error {
	return saga.All(ctx,
		func(saga.Context) error { return move(ctx, "a") }, // want `ctx belongs to the surrounding code: a branch or scope uses the Context that it receives \(context\)`
		func(inner saga.Context) error {
			saga.Sleep(ctx, time.Hour) // want `ctx belongs to the surrounding code.*\(context\)`
			return move(inner, "b")
		},
		func(ctx saga.Context) error { return move(ctx, "c") })
}

func each(outer saga.Context, customers []string) error {
	return saga.Each(outer, customers, func(ctx saga.Context, customer string) error {
		return saga.Try(ctx, func(saga.Context) error {
			return move(ctx, customer) // want `ctx belongs to the surrounding code.*\(context\)`
		})
	})
}

type holder struct{ ctx saga.Context }

func field(ctx saga.Context) error {
	h := holder{ctx: ctx}
	return saga.Try(ctx, func(ctx saga.Context) error {
		own := holder{ctx: ctx}
		if err := move(own.ctx, "a"); err != nil {
			return err
		}
		return move(h.ctx, "b") // want `h\.ctx belongs to the surrounding code.*\(context\)`
	})
}

func kept(ctx saga.Context) error {
	var mover saga.Context
	if err := saga.Try(ctx, func(ctx saga.Context) error {
		mover = ctx // want `mover keeps the Context of a branch or scope, which works only inside.*\(context\)`
		return nil
	}); err != nil {
		return err
	}
	return move(mover, "a")
}

func fine(ctx saga.Context) error {
	return saga.Try(ctx, func(ctx saga.Context) error {
		here := ctx
		later := func() error { return move(here, "a") }
		return saga.All(ctx, func(ctx saga.Context) error { return move(ctx, "b") },
			func(_ saga.Context) error { return nil }, lookup{}.run, func(saga.Context) error { return later() })
	})
}

type lookup struct{}

func (lookup) run(ctx saga.Context) error { return move(ctx, "d") }
