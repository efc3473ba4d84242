package sagatest

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// errDead is what an orchestrator hears from its store after it was killed.
var errDead = errors.New("the orchestrator was killed")

// cutStore is a store that can be cut off: what an orchestrator does after its death changes nothing.
type cutStore struct {
	journal.Store

	dead atomic.Bool

	// hook appends a group with next, or does something else. Nil: the group is appended.
	hook func(ctx context.Context, group []*journal.Entry, next func() error) error
}

// Append writes nothing after the cut.
func (s *cutStore) Append(ctx context.Context, group []*journal.Entry) error {
	if s.dead.Load() {
		return errDead
	}
	if s.hook == nil {
		return s.Store.Append(ctx, group)
	}
	return s.hook(ctx, group, func() error { return s.Store.Append(ctx, group) })
}
