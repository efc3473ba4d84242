package engine

import (
	"context"

	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// ResumeParams is an operator's decision about a suspended saga.
type ResumeParams = machine.Resume

// CancelParams is a decision to cancel a saga.
type CancelParams = machine.Cancel

// Cancel compensates a saga. It returns once the decision is durable. Cancelling a saga that is being compensated, or
// was, changes nothing. The errors are journal.ErrNotFound, machine.ErrChanged, machine.ErrPastPivot,
// machine.ErrPivotInFlight, machine.ErrEnded, ErrInDoubt and ErrStopping.
func (e *Engine) Cancel(ctx context.Context, id string, params CancelParams) error {
	return e.ask(ctx, id, params)
}

// Resume continues a suspended saga. It returns once the decision is durable. Before it marks an action as done or
// refused, it asks the participant, which must not say the opposite. The errors are journal.ErrNotFound,
// machine.ErrChanged, machine.ErrNotSuspended, machine.ErrDecisionUnfit, ErrNotAsked, ErrInDoubt and ErrStopping.
func (e *Engine) Resume(ctx context.Context, id string, params ResumeParams) error {
	if err := e.checkDecision(ctx, id, &params); err != nil {
		return err
	}
	return e.ask(ctx, id, params)
}
