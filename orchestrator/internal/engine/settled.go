package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Settled calls f for each saga that has ended or is suspended and had its last turn at a time or later, oldest first.
// Recover doesn't load those. A saga whose journal can't be read is logged and left out. Settled returns the error of f
// or the store, or ctx's.
func (e *Engine) Settled(ctx context.Context, since time.Time, f func(*machine.Saga) error) error {
	isNot := func(state treatyv1.SagaState) *journal.Filter {
		name := state.String()[len("SAGA_STATE_"):]
		return &journal.Filter{Op: journal.NotEqual, Field: journal.FieldState, Text: name}
	}
	params := journal.ListParams{
		Filter: &journal.Filter{Op: journal.And, Args: []*journal.Filter{
			{Op: journal.GreaterOrEqual, Field: journal.FieldUpdateTime, Time: since},
			isNot(treatyv1.SagaState_SAGA_STATE_RUNNING), isNot(treatyv1.SagaState_SAGA_STATE_COMPENSATING),
		}},
		Order: journal.Order{By: journal.OrderByUpdateTime}, Limit: recoverPage,
	}
	for {
		page, err := e.config.Store.List(ctx, params)
		if err != nil {
			return fmt.Errorf("listing the sagas that are settled: %w", err)
		}
		for _, row := range page {
			saga, err := e.loader.read(ctx, row.ID)
			switch {
			case ctx.Err() != nil:
				return context.Cause(ctx)
			case errors.Is(err, journal.ErrNotFound): // it was purged
				continue
			case err != nil:
				e.config.Logger.Warn("a settled saga can't be read", "saga", row.ID, "error", err)
				continue
			}
			if err := f(saga); err != nil {
				return err
			}
		}
		if len(page) < recoverPage {
			return nil
		}
		params.After = page[len(page)-1]
	}
}
