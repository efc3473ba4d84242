package orchestrator

import (
	"context"
	"fmt"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Finding is an open saga that can't continue with this program's code.
type Finding struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// Definition is the saga's definition.
	Definition string

	// State is the saga's state.
	State treatyv1.SagaState

	// Step is the step at which the code differs from the journal; empty when the saga can't run at all.
	Step string

	// Expected is what the journal holds at that step.
	Expected string

	// Found is what the code does at that step.
	Found string
}

// Verify is the upgrade gate. It replays every open saga in the store against the registered code, without any effect,
// and returns the sagas that can't continue with this code and how many open sagas there are. Code that blocks is a
// finding, too; its goroutine is left behind. Verify may run while an orchestrator has the store open. The errors are
// those of the registered definitions and of the store (fs.ErrNotExist, ErrStoreCorrupt, ErrStoreVersion,
// ErrStoreKey).
func (o *Orchestrator) Verify(ctx context.Context) (findings []Finding, verified int, err error) {
	return o.verify(ctx, nil)
}

// verify is Verify. It calls each after each saga, by several goroutines at once; each may be nil.
func (o *Orchestrator) verify(
	ctx context.Context, each func(),
) (findings []Finding, verified int, err error) {
	code, err := o.registered()
	if err != nil {
		return nil, 0, err
	}
	store, err := stores.OpenReadOnly(ctx, o.settings.store)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = store.Close() }() // it was only read
	keys, err := o.keys()
	if err != nil {
		return nil, 0, err
	}
	if store, err = stores.SealReader(ctx, store, keys); err != nil {
		return nil, 0, err
	}
	verified, err = engine.Verify(ctx, engine.VerifyParams{
		Store: store, Catalog: o.catalog, Definitions: code, TurnLimit: o.settings.turnLimit,
		Verified: each,
		Report: func(saga *journal.Row, wrong *treatyv1.SagaSuspended) {
			findings = append(findings, Finding{
				Saga: wire.SagaName(saga.ID), Definition: saga.Definition, State: saga.State,
				Step: wrong.GetStep(), Expected: wrong.GetExpected(), Found: wrong.GetFound(),
			})
		},
	})
	if err != nil {
		return findings, verified, fmt.Errorf("verifying the store %s: %w", store.Name(), err)
	}
	return findings, verified, nil
}

// registered returns the code of all definitions by name.
func (o *Orchestrator) registered() (map[string]machine.Code, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.checked()
}
