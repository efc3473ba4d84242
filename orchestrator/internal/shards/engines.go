package shards

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// Rows reads the rows of sagas, of all shards.
type Rows interface {
	// Get returns the row of a saga, with its shard. It returns journal.ErrNotFound if there is no such saga.
	Get(ctx context.Context, id string) (*journal.Row, error)
}

// Engines are the engines of the shards that this process owns. All methods may be called concurrently.
type Engines struct {
	rows Rows
	seed maphash.Seed

	mu      sync.RWMutex
	driven  map[int]*engine.Engine
	numbers []int // of driven, sorted

	events watchers
}

var _ server.Engine = (*Engines)(nil)

// New returns Engines without any.
func New(rows Rows) *Engines {
	return &Engines{rows: rows, seed: maphash.MakeSeed(), driven: make(map[int]*engine.Engine)}
}

// Add adds the engine of a shard.
func (e *Engines) Add(shard int, of *engine.Engine) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.driven[shard] = of
	e.numbers = slices.Sorted(maps.Keys(e.driven))
}

// Remove removes the engine of a shard that this process no longer owns. Calls that wait for it return
// journal.ErrElsewhere once it has stopped.
func (e *Engines) Remove(shard int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.driven, shard)
	e.numbers = slices.Sorted(maps.Keys(e.driven))
}

// Shards returns the numbers of the shards with an engine, sorted.
func (e *Engines) Shards() []int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.numbers
}

// All returns all engines, in the order of their shards.
func (e *Engines) All() []*engine.Engine {
	e.mu.RLock()
	defer e.mu.RUnlock()
	all := make([]*engine.Engine, 0, len(e.numbers))
	for _, number := range e.numbers {
		all = append(all, e.driven[number])
	}
	return all
}

// Wake wakes sagas of a shard that are due because of an event that was published elsewhere.
func (e *Engines) Wake(shard int, sagas []string) {
	if of, _ := e.engine(shard); of != nil {
		of.Wake(sagas...)
	}
}

// EventsPublished notifies those who watch events.
func (e *Engines) EventsPublished() { e.events.notify() }

// engine returns the engine of a shard, or an error if another process owns the shard.
func (e *Engines) engine(shard int) (*engine.Engine, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if of := e.driven[shard]; of != nil {
		return of, nil
	}
	return nil, &journal.ElsewhereError{Shard: shard}
}

// birthplace returns the engine in which a saga of this name begins: the same one for each call, as long as this
// process owns the same shards, so that two starts that arrive at once find each other.
func (e *Engines) birthplace(name string) (*engine.Engine, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if len(e.numbers) == 0 {
		return nil, server.ErrNoShard
	}
	return e.driven[e.numbers[maphash.String(e.seed, name)%uint64(len(e.numbers))]], nil
}

// of returns the engine of a saga, or its birthplace if it doesn't exist.
func (e *Engines) of(ctx context.Context, id string) (*engine.Engine, error) {
	row, err := e.rows.Get(ctx, id)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return e.birthplace(id)
	case err != nil:
		return nil, fmt.Errorf("finding the shard of saga %s: %w", id, err)
	}
	return e.engine(row.Shard)
}

// at calls f with the engine of a saga. It calls f again if the saga has got another engine meanwhile.
func (e *Engines) at(ctx context.Context, id string, f func(*engine.Engine) error) error {
	for {
		of, err := e.of(ctx, id)
		if err != nil {
			return err
		}
		if err = f(of); !hasMoved(err) || e.isDriven(of) || ctx.Err() != nil {
			return err
		}
	}
}

// hasMoved returns whether an error may mean that the saga's shard has got another owner.
func hasMoved(err error) bool {
	return errors.Is(err, engine.ErrStopping) || errors.Is(err, journal.ErrFenced) ||
		errors.Is(err, journal.ErrElsewhere)
}

// isDriven returns whether an engine is still that of its shard.
func (e *Engines) isDriven(of *engine.Engine) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, one := range e.driven {
		if one == of {
			return true
		}
	}
	return false
}

// Start implements server.Engine.
func (e *Engines) Start(ctx context.Context, params engine.StartParams) (server.Started, error) {
	name := params.SagaID
	if name == "" {
		name = params.Definition + " " + params.RequestID
	}
	of, err := e.birthplace(name)
	if err != nil {
		return nil, err
	}
	handle, err := of.Start(ctx, params)
	if elsewhere, is := errors.AsType[*journal.ElsewhereError](err); is {
		// The saga exists in another shard.
		if of, err = e.engine(elsewhere.Shard); err != nil {
			return nil, elsewhere
		}
		handle, err = of.Start(ctx, params)
	}
	if err != nil {
		return nil, err
	}
	return &started{Handle: handle, engines: e, of: of}, nil
}

// started is a saga that was started, or found.
type started struct {
	*engine.Handle

	engines *Engines
	of      *engine.Engine
}

// Await implements server.Started.
func (s *started) Await(ctx context.Context) (engine.SagaEnd, error) {
	end, err := s.Handle.Await(ctx)
	if hasMoved(err) && !s.engines.isDriven(s.of) && ctx.Err() == nil {
		return s.engines.Await(ctx, s.ID)
	}
	return end, err
}

// Await implements server.Engine.
func (e *Engines) Await(ctx context.Context, id string) (end engine.SagaEnd, err error) {
	err = e.at(ctx, id, func(of *engine.Engine) (err error) {
		end, err = of.Await(ctx, id)
		return err
	})
	return end, err
}

// Cancel implements server.Engine.
func (e *Engines) Cancel(ctx context.Context, id string, params engine.CancelParams) error {
	return e.at(ctx, id, func(of *engine.Engine) error { return of.Cancel(ctx, id, params) })
}

// Resume implements server.Engine.
func (e *Engines) Resume(ctx context.Context, id string, params engine.ResumeParams) error {
	return e.at(ctx, id, func(of *engine.Engine) error { return of.Resume(ctx, id, params) })
}

// Purge implements server.Engine.
func (e *Engines) Purge(ctx context.Context, id string, decision *treatyv1.Decision) (deleted int, err error) {
	err = e.at(ctx, id, func(of *engine.Engine) (err error) {
		deleted, err = of.Purge(ctx, id, decision)
		return err
	})
	return deleted, err
}

// ForgetLost implements server.Engine.
func (e *Engines) ForgetLost(ctx context.Context, id string, decision *treatyv1.Decision) error {
	return e.at(ctx, id, func(of *engine.Engine) error { return of.ForgetLost(ctx, id, decision) })
}

// Get implements server.Engine.
func (e *Engines) Get(ctx context.Context, id string) (saga *treatyv1.Saga, err error) {
	err = e.at(ctx, id, func(of *engine.Engine) (err error) {
		saga, err = of.Get(ctx, id)
		return err
	})
	return saga, err
}

// Complete implements server.StepEngine.
func (e *Engines) Complete(ctx context.Context, completion engine.Completion) error {
	return e.at(ctx, completion.Saga, func(of *engine.Engine) error { return of.Complete(ctx, completion) })
}

// Heartbeat implements server.StepEngine.
func (e *Engines) Heartbeat(ctx context.Context, saga, step string, direction engine.Direction) error {
	return e.at(ctx, saga, func(of *engine.Engine) error { return of.Heartbeat(ctx, saga, step, direction) })
}

// BeginCompensateChild implements server.ChildEngine.
func (e *Engines) BeginCompensateChild(ctx context.Context, params engine.StartParams) (undone bool, err error) {
	err = e.at(ctx, params.SagaID, func(of *engine.Engine) (err error) {
		undone, err = of.BeginCompensateChild(ctx, params)
		return err
	})
	return undone, err
}

// CloseChild implements server.ChildEngine.
func (e *Engines) CloseChild(ctx context.Context, params engine.StartParams) (closed engine.Closed, err error) {
	err = e.at(ctx, params.SagaID, func(of *engine.Engine) (err error) {
		closed, err = of.CloseChild(ctx, params)
		return err
	})
	return closed, err
}

// ChildCommands implements server.ChildEngine.
func (e *Engines) ChildCommands(ctx context.Context, id string) (known []*treatyv1.KnownCommand, err error) {
	err = e.at(ctx, id, func(of *engine.Engine) (err error) {
		known, err = of.ChildCommands(ctx, id)
		return err
	})
	return known, err
}

// Condition implements server.ConditionEngine. Of several conditions, it returns that of the lowest shard.
func (e *Engines) Condition() error {
	for _, of := range e.All() {
		if err := of.Condition(); err != nil && !errors.Is(err, journal.ErrFenced) {
			return err
		}
	}
	return nil
}

// Damage implements server.ConditionEngine.
func (e *Engines) Damage(id string) error {
	for _, of := range e.All() {
		if err := of.Damage(id); err != nil {
			return err
		}
	}
	return nil
}

// Publish implements server.EventEngine. Any shard can publish.
func (e *Engines) Publish(ctx context.Context, events []*journal.Event) (woken int, err error) {
	for _, of := range e.All() {
		if woken, err = of.Publish(ctx, events); !hasMoved(err) {
			if err == nil {
				e.events.notify()
			}
			return woken, err
		}
	}
	return 0, server.ErrNoShard
}

// WatchEvents implements server.EventEngine.
func (e *Engines) WatchEvents() (<-chan struct{}, func()) { return e.events.subscribe() }
