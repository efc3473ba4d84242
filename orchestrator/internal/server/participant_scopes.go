package server

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// scopes fences the orchestrators whose sagas have children here. An orchestrator that another one has replaced, with a
// higher epoch in the same scope, starts and compensates no child any more. All methods may be called concurrently.
type scopes struct {
	store  ChildStore
	logger *slog.Logger

	// mu is held for reading while a child is started or compensated under an epoch, and for writing while a higher
	// epoch is heard. So nothing happens under an epoch once a higher one was answered.
	mu     sync.RWMutex
	epochs map[string]uint64 // the highest of each scope, as far as this process knows; they are stored
}

// hear takes note of a caller's epoch. It returns the error STALE_EPOCH if a higher one is known, and EPOCH_AHEAD if it
// can't be believed.
func (s *scopes) hear(ctx context.Context, caller incoming.Caller) error {
	leave, err := s.enter(ctx, caller)
	if err == nil {
		leave()
	}
	return err
}

// enter is hear, and keeps higher epochs of the scope waiting until leave is called. An orchestrator of an earlier
// version has no scope, so it can't be fenced.
func (s *scopes) enter(ctx context.Context, caller incoming.Caller) (leave func(), err error) {
	if caller.Scope == "" {
		return func() {}, nil
	}
	if err := incoming.CheckEpoch(caller.Epoch, time.Now()); err != nil {
		return nil, &statusError{err}
	}
	for {
		s.mu.RLock()
		if known := s.epochs[caller.Scope]; known >= caller.Epoch {
			if err := checkStale(caller, known); err != nil {
				s.mu.RUnlock()
				return nil, err
			}
			return s.mu.RUnlock, nil
		}
		s.mu.RUnlock()
		if _, err := s.tell(ctx, journal.HeardScope{Scope: caller.Scope, Epoch: caller.Epoch}); err != nil {
			return nil, err
		}
	}
}

// tell stores what was heard of a scope, and returns what was heard before.
func (s *scopes) tell(ctx context.Context, told journal.HeardScope) (before journal.HeardScope, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err = s.store.Hear(ctx, told)
	if err != nil {
		return before, fmt.Errorf("storing the epoch of %s: %w", told.Scope, err)
	}
	if s.epochs == nil {
		s.epochs = make(map[string]uint64)
	}
	s.epochs[told.Scope] = max(before.Epoch, told.Epoch)
	if before.StoreID != "" && told.StoreID != "" && before.StoreID != told.StoreID {
		s.logger.ErrorContext(ctx, "two orchestrators with different stores have the same name: give each a name of "+
			"its own", "scope", told.Scope, "store", told.StoreID, "other", before.StoreID)
	}
	return before, checkStale(incoming.Caller{Scope: told.Scope, Epoch: told.Epoch}, before.Epoch)
}

// checkStale returns the error for an epoch that a higher one has replaced.
func checkStale(caller incoming.Caller, known uint64) error {
	if caller.Epoch >= known {
		return nil
	}
	return &apiError{
		code: codes.Aborted, reason: treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH,
		message: fmt.Sprintf("a call of %s was sent under epoch %d, which epoch %d has replaced", caller.Scope,
			caller.Epoch, known),
		metadata: map[string]string{wire.ErrorEpoch: strconv.FormatUint(known, 10)},
	}
}
