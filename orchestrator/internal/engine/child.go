package engine

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// ChildID is the id of the saga that a step of another saga is.
func ChildID(definition, commandID string) string {
	// Its first letter keeps it apart from the ids that are derived from clients' request ids.
	return "c" + NewID(noTime, definition, commandID)[1:]
}

// CompensateChild undoes a saga for its parent, also when it has succeeded. It returns once every step of it that may have run is undone. A saga
// that was never started is recorded as undone, so that a start that comes later is refused. params are those of its start. The errors
// are machine.ErrPastPivot, ErrInDoubt, ErrStopping and ctx's; the saga goes on being undone whatever becomes of the caller.
func (e *Engine) CompensateChild(ctx context.Context, params StartParams) error {
	undone, err := e.BeginCompensateChild(ctx, params)
	if err != nil || undone {
		return err
	}
	_, err = e.Await(ctx, params.SagaID)
	return err
}

// BeginCompensateChild is CompensateChild that doesn't wait: it returns once it is durable that the saga will be undone, and whether it is already. Its SagaID
// must be set.
func (e *Engine) BeginCompensateChild(ctx context.Context, params StartParams) (undone bool, err error) {
	err = e.ask(ctx, params.SagaID, machine.CompensateForParent{})
	if errors.Is(err, journal.ErrNotFound) {
		if _, err = e.start(ctx, params, undoneAtOnce); err == nil {
			err = e.ask(ctx, params.SagaID, machine.CompensateForParent{}) // in case it was started in between
		}
	}
	if err != nil {
		return false, err
	}
	row, err := e.config.Store.Get(ctx, params.SagaID)
	if err != nil {
		return false, fmt.Errorf("undoing saga %s: %w", params.SagaID, err)
	}
	return row.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED, nil
}

// RefusalOf is the status of a child that was compensated, as its parent sees it: everything that it did is undone, so its code is one that
// means "refused". A status whose code means something else becomes the detail of one that does.
func RefusalOf(failure *treatyv1.Failure) *treatyv1.Failure {
	code := codes.Code(uint32(failure.GetCode()))
	if contract.OutcomeOf(nil, code) == treatyv1.Outcome_OUTCOME_REFUSED {
		return failure
	}
	refusal := &treatyv1.Failure{
		Code: int32(codes.FailedPrecondition), Message: fmt.Sprintf("the child saga was undone: %s: %s", code, failure.GetMessage()), Details: failure.GetDetails(),
	}
	if detail, err := anypb.New(&treatyv1.Failure{Code: failure.GetCode(), Message: failure.GetMessage()}); err == nil {
		refusal.Details = append(refusal.Details, detail)
	}
	return refusal
}
