package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

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
		l.sagas[saga.ID] = journal.MergeLost(l.sagas[saga.ID], saga)
	}
}

// found removes a saga that isn't lost any more.
func (l *lostSagas) found(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sagas, id)
}

// ForgetLost removes a saga from the lost sagas. It returns once that is durable. A saga of whose parent a command is
// known is recorded as compensated, in the same commit. The errors are journal.ErrNotFound if the saga isn't lost,
// those of Condition, ErrInDoubt and ErrStopping. After an error, the saga is still lost, or forgotten as a whole.
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
	// The log is the only record of a decision about a saga without a known parent, so it comes first.
	e.config.Logger.Info("a lost saga is removed from the list", "saga", wire.SagaName(id),
		"actor", decision.GetActor(), "reason", decision.GetReason())
	if command := e.lost.parentCommand(id); command != nil {
		params := lostChild(id, command)
		params.Decision = decision
		if _, err := e.start(ctx, params, startForgotten); err != nil {
			return fmt.Errorf("recording that the lost saga %s was undone: %w", wire.SagaName(id), err)
		}
	}
	if err := e.config.Store.RemoveLost(ctx, id); err != nil {
		return fmt.Errorf("%w: removing the lost saga %s: %w", ErrInDoubt, wire.SagaName(id), err)
	}
	e.lost.found(id)
	return nil
}

// loseChild stores that another orchestrator's child was lost: its parent has a reply of it, but the store doesn't know
// it.
func (e *Engine) loseChild(ctx context.Context, params StartParams) error {
	if err := e.gate.err(); err != nil {
		return err
	}
	parent := params.Parent
	command := journal.LostCommand{
		CommandID: parent.GetCommandId(), Participant: parent.GetScope(), Method: params.Definition,
		Digest: parent.GetRequestDigest(), Verdict: int32(treatyv1.CommandVerdict_COMMAND_VERDICT_EXECUTED),
	}
	if parent.GetSagaStart() != nil {
		command.Start = parent.GetSagaStart().AsTime()
	}
	lost := []journal.LostSaga{{
		ID: params.SagaID, FoundTime: e.config.now(), Commands: []journal.LostCommand{command},
	}}
	if err := e.config.Store.AddLost(ctx, lost); err != nil {
		return fmt.Errorf("%w: storing the lost saga %s: %w", ErrInDoubt, wire.SagaName(params.SagaID), err)
	}
	e.lost.add(lost)
	e.config.Logger.Error("a child saga was lost: its parent has received its reply and compensates it, but the store "+
		"doesn't know it; undo its effects by hand and remove it from the lost sagas",
		"saga", wire.SagaName(params.SagaID), "parent", parent.GetCommandId())
	return nil
}

// lostChild returns the parameters with which a lost child is recorded as compensated.
func lostChild(id string, command *journal.LostCommand) StartParams {
	parent := &treatyv1.Parent{
		CommandId: command.CommandID, Scope: command.Participant, RequestDigest: command.Digest,
		Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE, Closed: true,
	}
	if !command.Start.IsZero() {
		parent.SagaStart = timestamppb.New(command.Start)
	}
	return StartParams{Definition: command.Method, SagaID: id, Parent: parent}
}

// parentCommand returns the command of a lost child's parent, if that is how it was found, or nil.
func (l *lostSagas) parentCommand(id string) *journal.LostCommand {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, command := range l.sagas[id].Commands {
		if OfParent(id, command) {
			return &command
		}
	}
	return nil
}

// OfParent returns whether a command of the lost saga with an id isn't one that the saga has sent, but the one of its
// parent at another orchestrator, which has started it. Then Method is the saga's definition, and Participant the scope
// of the parent's orchestrator.
func OfParent(id string, command journal.LostCommand) bool {
	saga, _, _ := wire.ParseStepName(command.CommandID)
	return saga != id
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
	var known []knownCommand
	hasReply := false // its parent has a reply
	for _, command := range saga.Commands {
		if OfParent(id, command) {
			hasReply = true
			continue
		}
		known = append(known, knownLost(saga.ID, command))
	}
	// Its journal is empty.
	empty := &machine.Saga{ID: saga.ID, Round: 1}
	record := (&comparer{catalog: l.catalog, backup: saga.FoundTime, restore: saga.FoundTime}).compare(empty, known)
	hasEffect := slices.ContainsFunc(record.GetCommands(), (*treatyv1.RestoredCommand).GetHasEffect)
	switch {
	case mode == startForgotten:
		return nil, nil
	case mode == startNormally || record.GetCompensated():
		return record, nil
	case hasEffect || hasReply:
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
