package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	// recoverPage is how many sagas are read at a time.
	recoverPage = 256

	// maxRecovering is how many sagas are loaded at the same time.
	maxRecovering = 64
)

// Recover loads every open saga and continues it, and starts the timers. It returns how many open sagas there were,
// once each was loaded and its pending commands were handed to the sender. It doesn't wait for sagas whose code blocks.
// A saga whose journal can't be read is logged and doesn't continue.
//
// If the store was restored from a backup, Recover returns at once. Sagas continue once all participants have said what
// they know. If it was replaced, no saga continues.
func (e *Engine) Recover(ctx context.Context) (int, error) {
	switch condition := e.gate.err(); {
	case condition == nil:
		return e.recoverSagas(ctx)
	case errors.Is(condition, ErrRestoring):
		return 0, e.recoverRestored()
	default:
		return 0, nil
	}
}

// recoverRestored compares a restored store with its participants in the background, and then recovers the sagas.
func (e *Engine) recoverRestored() error {
	if e.config.Participants == nil {
		return errors.New("recovering a restored store: its participants are missing")
	}
	e.work.spawn(func() {
		if !e.reconcileStore() {
			return
		}
		e.gate.restored()
		if _, err := e.recoverSagas(e.work.ctx); err != nil && !errors.Is(err, ErrStopping) {
			e.config.Logger.Error("recovering the sagas of a restored store failed; start the orchestrator again",
				"error", err)
		}
	})
	return nil
}

// Recovered returns how many open sagas Recover has found so far.
func (e *Engine) Recovered() int { return int(e.recovered.Load()) }

func (e *Engine) recoverSagas(ctx context.Context) (int, error) {
	e.waker.timers.start()
	e.purger.start()
	defer e.register.trackDropped()()
	slots := make(chan struct{}, maxRecovering)
	found := 0
	for after := ""; ; {
		page, err := e.config.Store.Open(ctx, journal.OpenParams{After: after, Limit: recoverPage})
		if err != nil {
			return found, fmt.Errorf("reading open sagas: %w", err)
		}
		for _, stored := range page {
			after = stored.Row.ID
			found++
			e.recovered.Add(1)
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return found, context.Cause(ctx)
			}
			loaded := sync.OnceFunc(func() { <-slots })
			if !e.work.spawn(func() {
				defer loaded()
				e.driver.recover(stored, loaded)
			}) {
				return found, ErrStopping
			}
		}
		if len(page) < recoverPage {
			break
		}
	}
	// All slots are free again once every saga is loaded.
	for range maxRecovering {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return found, context.Cause(ctx)
		}
	}
	e.work.spawn(e.warnOfChangedEvents)
	return found, nil
}

// recover continues one saga that was found open in the store. It calls slow if the saga's code takes long: nobody
// should wait for it.
func (d *driver) recover(stored *journal.Journal, slow func()) {
	inst := d.register.get(stored.Row.ID)
	inst.mu.Lock()
	inUse := inst.running || inst.machine != nil || inst.deliveries.len() > 0 || len(inst.unserved) > 0
	if inst.dropped || inUse {
		inst.mu.Unlock() // a call loaded the saga in the meantime
		if saga, err := fold(stored); err == nil {
			d.config.Observer.SagaRecovered(saga)
		}
		// That call need not have sent the pending commands.
		d.sender.sendAsync(d.submit(stored.Row.ID, message{input: machine.Wake{}}))
		return
	}
	inst.running = true
	inst.put(message{input: machine.Wake{}})
	inst.mu.Unlock()
	inst.slow = slow
	var err error
	if d.register.wasDropped(inst.id) {
		// It was loaded, changed and dropped since it was read from the store.
		stored, err = d.config.Store.Load(d.work.ctx, inst.id)
	}
	if err == nil {
		err = d.loader.replay(inst, stored)
	}
	if err != nil {
		d.suspendForKey(inst, err)
		d.abandon(inst, err)
		return
	}
	if saga := inst.machine.Saga(); !saga.Final() {
		d.config.Observer.SagaRecovered(saga)
	}
	d.sender.sendAsync(d.run(inst))
}
