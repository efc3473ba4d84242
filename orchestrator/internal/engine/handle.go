package engine

import (
	"context"
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// SagaEnd is how a saga ended.
type SagaEnd struct {
	// State is SUCCEEDED or COMPENSATED.
	State treatyv1.SagaState

	// Reply is the serialized reply of a saga that succeeded.
	Reply []byte

	// Failure is the error of a saga that was compensated.
	Failure *treatyv1.Failure
}

// Handle is a saga that was started or found.
type Handle struct {
	// ID is the saga's id.
	ID string

	// Existing says that the saga had been started before.
	Existing bool

	// Principal is the id of the principal that started an existing saga. It is empty if that isn't known.
	Principal string

	engine *Engine
	inst   *instance
	ended  <-chan struct{} // nil for an existing saga
}

// Await waits for the saga's end and returns it. When ctx ends first, the saga continues.
func (h *Handle) Await(ctx context.Context) (SagaEnd, error) {
	if h.ended == nil {
		return h.engine.Await(ctx, h.ID)
	}
	select {
	case <-h.ended:
		if h.inst.end.State == treatyv1.SagaState_SAGA_STATE_UNSPECIFIED {
			return h.engine.Await(ctx, h.ID)
		}
		return h.inst.end, nil
	case <-h.engine.work.closing:
		return h.engine.Await(ctx, h.ID)
	case <-ctx.Done():
		return SagaEnd{}, context.Cause(ctx)
	}
}

// StartedBy returns the id of the principal that started the saga before, or an empty text if this call has started it
// or that isn't known.
func (h *Handle) StartedBy() string { return h.Principal }

// Ended returns the saga's end without waiting, or false when the saga hasn't ended.
func (h *Handle) Ended(ctx context.Context) (SagaEnd, bool, error) {
	if h.ended != nil {
		select {
		case <-h.ended:
		default:
			return SagaEnd{}, false, nil
		}
	}
	row, err := h.engine.config.Store.Get(ctx, h.ID)
	if err != nil {
		return SagaEnd{}, false, fmt.Errorf("reading the end of saga %s: %w", h.ID, err)
	}
	if row.EndTime.IsZero() {
		return SagaEnd{}, false, nil
	}
	end, err := h.engine.Await(ctx, h.ID)
	return end, err == nil, err
}

// Await waits for a saga's end and returns it. Once the engine stops, it doesn't wait: a saga that hasn't ended by then
// ends later, or in the next process. The errors are journal.ErrNotFound, ErrStopping and ctx's.
func (e *Engine) Await(ctx context.Context, id string) (SagaEnd, error) {
	ended, cancel := e.notifier.waiters.subscribe(id)
	defer cancel()
	for {
		row, err := e.config.Store.Get(ctx, id)
		if err != nil {
			return SagaEnd{}, fmt.Errorf("awaiting saga %s: %w", id, err)
		}
		if !row.EndTime.IsZero() {
			saga, err := e.loader.read(ctx, id)
			if err != nil {
				return SagaEnd{}, err
			}
			return endOf(saga), nil
		}
		select {
		case <-ended:
		case <-e.work.closing:
			return SagaEnd{}, ErrStopping
		case <-ctx.Done():
			return SagaEnd{}, context.Cause(ctx)
		}
	}
}

// Watch begins to watch a saga. The caller must call Close. It doesn't check whether the saga exists: Next does.
//
// However many watch a saga, it is read from the store once and rendered once for each change.
func (e *Engine) Watch(id string) *SagaWatch { return e.notifier.feeds.watch(id) }
