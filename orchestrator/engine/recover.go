package engine

import (
	"context"
	"fmt"

	"github.com/treatyhq/treaty/orchestrator/journal"
	"github.com/treatyhq/treaty/orchestrator/machine"
)

const (
	// recoverPage is how many sagas are read at once.
	recoverPage = 256

	// recoverAtOnce is how many recovered sagas are driven at once, so that a restart doesn't fall on the participants all at
	// once.
	recoverAtOnce = 256
)

// Recover loads every open saga and goes on with it, and begins to fire timers. It returns how many there were, once each was driven
// until it ended or waited. A saga that can't be read is logged and stands still.
func (e *Engine) Recover(ctx context.Context) (int, error) {
	e.timers.scan()
	slots := make(chan struct{}, recoverAtOnce)
	found := 0
	for after := ""; ; {
		page, err := e.config.Store.Open(ctx, after, recoverPage)
		if err != nil {
			return found, fmt.Errorf("reading open sagas: %w", err)
		}
		for _, stored := range page {
			after = stored.Row.ID
			found++
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return found, context.Cause(ctx)
			}
			if !e.enter() {
				return found, ErrStopping
			}
			go func() {
				defer func() { <-slots; e.leave() }()
				e.recoverSaga(stored)
			}()
		}
		if len(page) < recoverPage {
			break
		}
	}
	for range recoverAtOnce {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return found, context.Cause(ctx)
		}
	}
	return found, nil
}

func (e *Engine) recoverSaga(stored *journal.Journal) {
	inst := e.instance(stored.Row.ID)
	inst.mu.Lock()
	if inst.gone || inst.busy || inst.machine != nil {
		inst.mu.Unlock() // somebody asked for it in the meantime, and loaded it
		return
	}
	inst.busy = true
	inst.tasks = append(inst.tasks, task{input: machine.Wake{}})
	inst.mu.Unlock()
	if err := e.replay(inst, stored); err != nil {
		e.abandonAll(inst, err)
		return
	}
	e.config.Observer.SagaRecovered(inst.machine.Saga())
	e.fly(e.run(inst))
}
