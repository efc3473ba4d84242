package engine

import (
	"context"
	"errors"
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// ErrKept means that a saga can't be purged: it hasn't ended, or a parent may still compensate it.
var ErrKept = errors.New("the saga can't be purged")

// Purge deletes a saga that has ended, with the children that it may compensate, whatever their retention. It returns
// how many sagas it deleted, once that is durable. Ids that may come again are remembered. The log is the only record
// of the decision. The errors are journal.ErrNotFound, ErrKept, those of Condition, ErrInDoubt and ErrStopping. After
// ErrInDoubt, the call may be repeated.
func (e *Engine) Purge(ctx context.Context, id string, decision *treatyv1.Decision) (int, error) {
	if !e.work.Enter() {
		return 0, ErrStopping
	}
	defer e.work.Leave()
	if err := e.gate.err(); err != nil {
		return 0, err
	}
	row, err := e.config.Store.Get(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("purging saga %s: %w", id, err)
	}
	if err := e.checkPurge(row); err != nil {
		return 0, err
	}
	e.config.Logger.Info("a person purges a saga", "saga", wire.SagaName(id), "definition", row.Definition,
		"state", row.State, "actor", decision.GetActor(), "reason", decision.GetReason())
	deleted, err := e.config.Store.Purge(ctx, journal.PurgeParams{
		Saga: id, ExceptPrefix: e.purger.except(row.Definition), Remember: isDerivedID, Limit: 1,
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: purging saga %s: %w", ErrInDoubt, wire.SagaName(id), err)
	case deleted == 0 && row.Parent.Saga != "":
		return 0, fmt.Errorf("%w: its parent %s at the orchestrator with the scope %q may still send commands; it can "+
			"be purged once that orchestrator has told a horizon after the parent's start", ErrKept,
			wire.SagaName(row.Parent.Saga), row.Parent.Scope)
	case deleted == 0:
		return 0, fmt.Errorf("%w: a child that it may compensate hasn't ended, or an earlier version has started it "+
			"as a child whose parent isn't known", ErrKept)
	}
	return deleted, nil
}

// checkPurge returns ErrKept if a saga certainly can't be purged.
func (e *Engine) checkPurge(row *journal.Row) error {
	switch {
	case !journal.Final(row.State):
		return fmt.Errorf("%w: it hasn't ended; cancel it first, or wait for its end", ErrKept)
	case row.LocalParent != "":
		return fmt.Errorf("%w: its parent may compensate it; purge the parent, %s, which purges both", ErrKept,
			wire.SagaName(row.LocalParent))
	default:
		return nil
	}
}
