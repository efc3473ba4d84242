package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Config is what an Engine is made of.
type Config struct {
	// Store keeps the sagas. The engine doesn't close it.
	Store Store

	// Dispatcher calls the participants. The engine doesn't close it.
	Dispatcher Dispatcher

	// Catalog knows the contracts.
	Catalog *contract.Catalog

	// Definitions holds the code of each saga definition, by its name.
	Definitions map[string]machine.Code

	// Observer is told what happens. Default NoObserver.
	Observer Observer

	// Logger takes what an operator should know, and what saga code logs. Default slog.Default.
	Logger *slog.Logger

	// Clock tells the time. Default: the machine's.
	Clock Clock

	// Retention says how long ended sagas are kept, by their definitions; those of definitions that aren't in it are kept for ever.
	Retention map[string]time.Duration

	// EventRetention is how long events are kept; 0 means for ever.
	EventRetention time.Duration

	// EvictAfter is how long a saga that only waits stays in memory. Default 5 s.
	EvictAfter time.Duration
}

// Engine drives the sagas of one store. All methods may be called concurrently.
type Engine struct {
	config    Config
	committer *committer
	timers    *timers
	watchers  watchers
	relays    relays
	due       dueSagas
	purger    purger

	eventWatchers eventWatchers
	publishers    map[string]*contract.EventType // of the methods whose replies are events

	// ctx ends when attempts under way are to be cut off.
	ctx    context.Context //nolint:containedctx // it is the engine's life, not a request's
	cutOff context.CancelFunc

	mu    sync.Mutex
	sagas map[string]*instance
	left  map[string]struct{} // who left memory since the recovery began; nil while there is none

	stopping atomic.Bool
	active   atomic.Int64  // goroutines and calls that may still commit
	idle     chan struct{} // takes a token when active falls to 0 while stopping
}

// New returns an engine. Call Recover before anything else, and Stop at the end.
func New(config Config) (*Engine, error) {
	if config.Store == nil || config.Dispatcher == nil || config.Catalog == nil {
		return nil, errors.New("making an engine: it needs a store, a dispatcher and a catalog")
	}
	if config.Observer == nil {
		config.Observer = NoObserver{}
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Clock == nil {
		config.Clock = wallClock{}
	}
	if config.EvictAfter <= 0 {
		config.EvictAfter = 5 * time.Second
	}
	e := &Engine{
		config:     config,
		committer:  newCommitter(config.Store, config.Observer),
		publishers: publishers(config.Catalog),
		sagas:      make(map[string]*instance),
		idle:       make(chan struct{}, 1),
	}
	e.due.wake = e.wake
	e.ctx, e.cutOff = context.WithCancel(context.Background())
	e.timers = &timers{
		clock: config.Clock, store: config.Store, armed: make(map[string]*timer),
		fire: e.due.add,
		fail: func(err error) { config.Logger.Error("reading timers; trying again in a minute", "error", err) },
	}
	return e, nil
}

// Stop takes no new input, waits for attempts under way until ctx ends, then cuts them off, and commits what came of them. What isn't
// finished goes on when the store is opened again.
func (e *Engine) Stop(ctx context.Context) error {
	if e.stopping.Swap(true) {
		return nil
	}
	e.timers.close()
	e.purger.close()
	err := e.drain(ctx)
	e.cutOff()
	if err != nil {
		// Attempts that were cut off come back at once.
		err = e.drain(context.WithoutCancel(ctx))
	}
	e.committer.close()
	e.mu.Lock()
	left := slices.Collect(maps.Values(e.sagas))
	clear(e.sagas)
	e.mu.Unlock()
	for _, inst := range left {
		inst.mu.Lock()
		inst.forget()
		inst.mu.Unlock()
	}
	return err
}

func (e *Engine) drain(ctx context.Context) error {
	for e.active.Load() > 0 {
		select {
		case <-e.idle:
		case <-ctx.Done():
			return fmt.Errorf("waiting for attempts under way: %w", context.Cause(ctx))
		}
	}
	return nil
}

// enter says whether something that may commit can still begin; leave ends it.
func (e *Engine) enter() bool {
	e.active.Add(1)
	if e.stopping.Load() {
		e.leave()
		return false
	}
	return true
}

func (e *Engine) leave() {
	if e.active.Add(-1) == 0 && e.stopping.Load() {
		select {
		case e.idle <- struct{}{}:
		default:
		}
	}
}

// Cancel undoes a saga. It returns once that is durable. Cancelling a saga that is being undone, or was, changes nothing. The errors are
// journal.ErrNotFound, machine.ErrPastPivot, ErrPivotUnderWay and ErrFinal, ErrInDoubt and ErrStopping.
func (e *Engine) Cancel(ctx context.Context, id string, decision *treatyv1.Decision) error {
	return e.ask(ctx, id, machine.Cancel{Decision: decision})
}

// Resume lets a suspended saga go on. It returns once that is durable. The errors are journal.ErrNotFound, machine.ErrNotSuspended and
// ErrUnfit, ErrInDoubt and ErrStopping.
func (e *Engine) Resume(ctx context.Context, id string, params ResumeParams) error {
	return e.ask(ctx, id, params)
}

// Watch returns a channel that holds a token after each change of the saga (several changes may make one), and a function that ends
// the watch. It doesn't say whether there is such a saga.
func (e *Engine) Watch(_ context.Context, id string) (<-chan struct{}, func(), error) {
	changes, cancel := e.watchers.subscribe(id)
	return changes, cancel, nil
}

// ask hands an input to a saga and waits until its turn is durable.
func (e *Engine) ask(ctx context.Context, id string, in machine.Input) error {
	if !e.enter() {
		return ErrStopping
	}
	answer := make(chan error, 1)
	go func() {
		defer e.leave()
		e.fly(e.submit(id, task{input: in, answer: answer}))
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// background hands an input to a saga that nobody waits for.
func (e *Engine) background(id string, in machine.Input) {
	if !e.enter() {
		return
	}
	defer e.leave()
	e.fly(e.submit(id, task{input: in}))
}
