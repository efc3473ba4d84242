package engine

import (
	"context"
	"fmt"
	"sync"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

const (
	// recoverPage is how many sagas are read at once.
	recoverPage = 256

	// recoverAtOnce is how many sagas are loaded at once.
	recoverAtOnce = 64

	// recoverInFlight is how many recovered commands are sent at once, so that a restart doesn't fall on the participants as one
	// blow.
	recoverInFlight = 1024
)

// Recover loads every open saga and goes on with it, and begins to fire timers. It returns how many there were, once each
// was loaded and its outstanding commands are on their way. A saga that can't be read is logged and stands still.
func (e *Engine) Recover(ctx context.Context) (int, error) {
	e.timers.scan()
	e.purger.begin(e)
	e.recovering(make(map[string]struct{}))
	defer e.recovering(nil)
	slots := make(chan struct{}, recoverAtOnce)
	found := 0
	for after := ""; ; {
		page, err := e.config.Store.Open(ctx, journal.OpenParams{After: after, Limit: recoverPage})
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

// forgotten says whether a saga was in memory since the recovery began, and isn't any more.
func (e *Engine) forgotten(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, was := e.left[id]
	return was
}

// recovering begins or ends the time in which sagas that leave memory are noted.
func (e *Engine) recovering(left map[string]struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left = left
}

func (e *Engine) recoverSaga(stored *journal.Journal) {
	inst := e.instance(stored.Row.ID)
	inst.mu.Lock()
	if inst.gone || inst.busy || inst.machine != nil || len(inst.flights) > 0 || len(inst.discoveries) > 0 {
		inst.mu.Unlock() // somebody asked for it in the meantime, and loaded it
		if saga, err := Fold(stored); err == nil {
			e.config.Observer.SagaRecovered(saga)
		}
		// What it was asked for need not have sent what is outstanding.
		e.relaunch(e.submit(stored.Row.ID, task{input: machine.Wake{}}))
		return
	}
	inst.busy = true
	inst.tasks = append(inst.tasks, task{input: machine.Wake{}})
	inst.mu.Unlock()
	err := error(nil)
	if e.forgotten(inst.id) {
		// It was loaded and went on since it was read: what was read is old.
		stored, err = e.config.Store.Load(e.ctx, inst.id)
	}
	if err == nil {
		err = e.replay(inst, stored)
	}
	if err != nil {
		e.abandonAll(inst, err)
		return
	}
	if saga := inst.machine.Saga(); !saga.Final() {
		e.config.Observer.SagaRecovered(saga)
	}
	e.relaunch(e.run(inst))
}

// relaunch sends a recovered command, or lets it wait until fewer are under way.
func (e *Engine) relaunch(f *flight) {
	if f == nil {
		return
	}
	e.relays.mu.Lock()
	defer e.relays.mu.Unlock()
	if e.relays.running >= recoverInFlight {
		e.relays.waiting = append(e.relays.waiting, f)
		return
	}
	if e.enter() {
		e.relays.running++
		go e.relay(f)
	}
}

// relays send recovered commands.
type relays struct {
	mu      sync.Mutex
	running int
	waiting []*flight
}

func (e *Engine) relay(f *flight) {
	defer e.leave()
	for f != nil {
		e.fly(f)
		e.relays.mu.Lock()
		if n := len(e.relays.waiting); n > 0 && !e.stopping.Load() {
			f = e.relays.waiting[n-1]
			e.relays.waiting = e.relays.waiting[:n-1]
		} else {
			f = nil
			e.relays.running--
		}
		e.relays.mu.Unlock()
	}
}
