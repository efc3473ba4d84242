package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// horizonMargin is how long a start may take until it is stored, at most. The horizon is older than that.
const horizonMargin = time.Hour

// horizons knows the horizon: no command of a saga that started before it will be sent any more. Participants may
// forget such sagas. All methods may be called concurrently.
type horizons struct {
	store  Store
	now    func() time.Time
	logger *slog.Logger

	mu     sync.Mutex
	told   time.Time // the latest that a participant may have been told; it never goes back
	remote time.Time // since when orchestrators that tell no horizon have started sagas here that they may compensate
}

// load reads what was told before this process began.
func (h *horizons) load(ctx context.Context) error {
	participants, err := h.store.Participants(ctx)
	if err != nil {
		return fmt.Errorf("reading which horizons participants were told: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range participants {
		if p.Horizon.After(h.told) {
			h.told = p.Horizon
		}
	}
	h.remote = h.store.Identity().RemoteChildren
	return nil
}

// noteStart stores durably that another orchestrator starts a saga that it may compensate after it has ended, if
// nobody says when the parent is over. Such sagas hold the horizon back for ever. Other children hold it back until
// their parent's orchestrator has told a horizon after the parent's start.
func (h *horizons) noteStart(ctx context.Context, parent *treatyv1.Parent) error {
	if parent == nil || parent.GetLocal() || parent.GetKind() != treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE ||
		parent.GetScope() != "" && parent.GetSagaStart() != nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.remote.IsZero() {
		return nil
	}
	now := h.now()
	if err := h.store.NoteRemoteChildren(ctx, now); err != nil {
		return fmt.Errorf("%w: %w", ErrInDoubt, err)
	}
	h.remote = now
	return nil
}

// startTime returns the time of a saga that starts now: not before what participants were told, whatever the clock
// does.
func (h *horizons) startTime(now time.Time) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Before(h.told) {
		return h.told
	}
	return now
}

// Horizon returns the time before which no saga started whose commands will still be sent. A local child needs no care
// of its own: its root started before it, and holds the horizon back until it has ended. Horizon returns zero when it
// isn't known. What it returns counts as told.
func (e *Engine) Horizon() time.Time {
	h := e.horizons
	oldest, err := h.store.OldestOpen(e.work.ctx)
	child, childErr := h.store.OldestChild(e.work.ctx)
	if err := errors.Join(err, childErr); err != nil {
		if e.work.ctx.Err() == nil { // else the engine stops
			h.logger.Warn("reading the oldest open saga failed; participants keep their rows for longer", "error", err)
		}
		return time.Time{}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	horizon := h.now().Add(-horizonMargin)
	for _, limit := range []time.Time{oldest, child, h.remote} {
		if !limit.IsZero() && limit.Before(horizon) {
			horizon = limit
		}
	}
	if horizon.After(h.told) {
		h.told = horizon
	}
	return horizon.UTC().Truncate(time.Microsecond)
}
