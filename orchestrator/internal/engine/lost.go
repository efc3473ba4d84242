package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// ErrLost says that a saga was lost when the store was restored from a backup, so that it can't be compensated. A
// person has to decide what becomes of its effects.
var ErrLost = errors.New("the saga was lost when the store was restored from a backup")

// lostSagas are the sagas that participants know and a restored store doesn't. All methods may be called concurrently.
type lostSagas struct {
	store   Store
	catalog *contract.Catalog

	mu    sync.Mutex
	sagas map[string]journal.LostSaga // nil if there is none
}

// load reads the lost sagas from the store.
func (l *lostSagas) load(ctx context.Context) error {
	const page = 256
	for after := ""; ; {
		found, err := l.store.Lost(ctx, journal.LostParams{After: after, Limit: page})
		if err != nil {
			return fmt.Errorf("reading lost sagas: %w", err)
		}
		l.add(found)
		if len(found) < page {
			return nil
		}
		after = found[len(found)-1].ID
	}
}

func (l *lostSagas) add(found []journal.LostSaga) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, saga := range found {
		if l.sagas == nil {
			l.sagas = make(map[string]journal.LostSaga)
		}
		l.sagas[saga.ID] = saga
	}
}

// found removes a saga that isn't lost any more.
func (l *lostSagas) found(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sagas, id)
}

// ForgetLost removes a saga from the lost sagas. It returns once that is durable. The errors are journal.ErrNotFound if
// the saga isn't lost, ErrReplaced, ErrRestoring, ErrInDoubt and ErrStopping.
func (e *Engine) ForgetLost(ctx context.Context, id string, decision *treatyv1.Decision) error {
	if !e.work.Enter() {
		return ErrStopping
	}
	defer e.work.Leave()
	if err := e.gate.err(); err != nil {
		return err
	}
	if !e.lost.has(id) {
		return fmt.Errorf("%w: %s isn't lost", journal.ErrNotFound, wire.SagaName(id))
	}
	if err := e.config.Store.RemoveLost(ctx, id); err != nil {
		return fmt.Errorf("%w: removing the lost saga %s: %w", ErrInDoubt, wire.SagaName(id), err)
	}
	e.lost.found(id)
	e.config.Logger.Info("a lost saga was removed from the list", "saga", wire.SagaName(id),
		"actor", decision.GetActor(), "reason", decision.GetReason())
	return nil
}

func (l *lostSagas) has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, lost := l.sagas[id]
	return lost
}

// restored returns what participants know about a saga that is started again after its start was lost, or nil if it
// wasn't lost. It returns ErrLost if the saga is to be recorded as compensated, but has effects.
func (l *lostSagas) restored(id string, mode startMode) (*treatyv1.SagaRestored, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	saga, lost := l.sagas[id]
	if !lost {
		return nil, nil
	}
	known := make([]knownCommand, len(saga.Commands))
	for i, command := range saga.Commands {
		known[i] = knownLost(saga.ID, command)
	}
	// Its journal is empty.
	empty := &machine.Saga{ID: saga.ID, Round: 1}
	record := (&comparer{catalog: l.catalog, backup: saga.FoundTime, restore: saga.FoundTime}).compare(empty, known)
	hasEffect := slices.ContainsFunc(record.GetCommands(), (*treatyv1.RestoredCommand).GetHasEffect)
	switch {
	case mode == startNormally || record.GetCompensated():
		return record, nil
	case hasEffect:
		return nil, fmt.Errorf("%w: %s", ErrLost, wire.SagaName(id))
	default:
		return nil, nil
	}
}

// knownLost returns a lost command as its participant knows it.
func knownLost(saga string, command journal.LostCommand) knownCommand {
	direction := treatyv1.StepDirection_STEP_DIRECTION_ACTION
	if command.Compensation {
		direction = treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
	}
	return knownCommand{
		KnownCommand: &treatyv1.KnownCommand{
			CommandId: command.CommandID, Direction: direction, Method: command.Method,
			Verdict: treatyv1.CommandVerdict(command.Verdict), RequestDigest: command.Digest,
		},
		participant: command.Participant, saga: saga, path: wire.StepPath(command.CommandID),
	}
}
