package engine

import (
	"context"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// ResumeParams is an operator's decision about a suspended saga.
type ResumeParams = machine.Resume

// Cancel compensates a saga. It returns once the decision is durable. Cancelling a saga that is being compensated, or
// was, changes nothing. The errors are journal.ErrNotFound, machine.ErrPastPivot, machine.ErrPivotInFlight,
// machine.ErrEnded, ErrInDoubt and ErrStopping.
func (e *Engine) Cancel(ctx context.Context, id string, decision *treatyv1.Decision) error {
	return e.ask(ctx, id, machine.Cancel{Decision: decision})
}

// Resume continues a suspended saga. It returns once the decision is durable. Before it marks an action as done or
// refused, it asks the participant, which must not say the opposite. The errors are journal.ErrNotFound,
// machine.ErrNotSuspended, machine.ErrDecisionUnfit, ErrNotAsked, ErrInDoubt and ErrStopping.
func (e *Engine) Resume(ctx context.Context, id string, params ResumeParams) error {
	if err := e.checkDecision(ctx, id, &params); err != nil {
		return err
	}
	return e.ask(ctx, id, params)
}
