package engine

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Config configures an Engine.
type Config struct {
	// Store keeps the sagas. The engine doesn't close it.
	Store Store

	// Scope is what the store's epochs belong to, "{name}/{shard}". Participants are told it with every command. It is
	// empty if they are told nothing about this orchestrator.
	Scope string

	// Dispatcher calls the participants. The engine doesn't close it.
	Dispatcher Dispatcher

	// Participants are asked what they know when the store was restored from a backup. It is needed only then.
	Participants Participants

	// Changed is called with nil when sagas begin to be driven, and with the error of Condition when they aren't
	// driven any more or not yet. It must not block. Default: it isn't called.
	Changed func(condition error)

	// Writable is called with the error when the store refuses a commit, and with nil when it accepts commits again,
	// which is found out within a second or so. It must not block. Default: it isn't called.
	Writable func(cause error)

	// Valid returns whether this process may drive the store's sagas, if another one may take them over. It is asked
	// before each command is sent, so it must be quick. Once it has returned false, it must always return false.
	// Default: no other process may.
	Valid func() bool

	// Fenced is called when the store has refused a commit since another process owns the sagas. It must not block, and
	// may be called more than once. Default: it isn't called.
	Fenced func()

	// Local returns whether a method starts a child saga of this engine. Nil: no method does.
	Local func(method string) bool

	// Catalog holds the contracts.
	Catalog *contract.Catalog

	// Definitions holds the code of each saga definition, by its name.
	Definitions map[string]machine.Code

	// Observer is notified of what becomes durable. Default NoObserver.
	Observer Observer

	// Logger receives what an operator should know, and the log records of saga code. Default slog.Default.
	Logger *slog.Logger

	// now tells the time. Default time.Now. Tests set it to turn the clock back, which testing/synctest can't.
	now func() time.Time

	// SteadyClock says that the clock is never set. Then nothing checks whether it was, and all timers are kept in
	// memory, so that a year of virtual time costs nothing while no saga is due.
	SteadyClock bool

	// Retention says how long sagas are kept after they ended, by definition. Sagas of other definitions are kept
	// forever. So are sagas that a parent may still compensate: those of this store are purged with their parents.
	Retention map[string]time.Duration

	// ChildRetention says how long sagas that a saga of another orchestrator may compensate are kept after they ended,
	// at least: they are kept, too, until that orchestrator has told a horizon after the start of its saga. 0 means
	// forever.
	ChildRetention time.Duration

	// IDRetention says how long the ids of purged sagas are kept after the sagas ended, at least: an id is kept, too,
	// as long as some participant hasn't been told a horizon after the saga's end. 0 means forever.
	IDRetention time.Duration

	// EventRetention says how long events are kept. 0 means forever.
	EventRetention time.Duration

	// EventIDRetention says how long the ids of events are kept after the events. Default 30 days.
	EventIDRetention time.Duration

	// TurnLimit is how long the code of a saga may run until it sends a command, waits or ends. Code that takes longer
	// is left behind, and the saga suspended. Time in which the process doesn't run doesn't count. Default
	// DefaultTurnLimit.
	TurnLimit time.Duration

	// StartLimits limit how many sagas are started.
	StartLimits StartLimits

	// EvictAfter is how long a command must wait until its saga leaves memory. Default 5 s.
	EvictAfter time.Duration
}

// Engine drives the sagas of one store. All methods may be called concurrently.
//
// It is made of parts that each own their state: the register holds the sagas in memory with their mailboxes, the
// driver runs turns, the writer makes them durable, the sender delivers commands, the waker fires timers and events,
// the purger deletes what is older than its retention, and the watchdog interrupts saga code that blocks.
type Engine struct {
	config   *Config
	work     *work
	gate     *gate
	lost     *lostSagas
	horizons *horizons
	register *register
	loader   *loader
	driver   *driver
	writer   *writer
	waker    *waker
	notifier *notifier
	purger   *purger
	watchdog *watchdog
	starts   *startLimiter

	recovered atomic.Int64 // the open sagas that Recover has found so far
}

// New returns an engine that may be called at once. Call Recover, so that the store's open sagas continue, and Stop at
// the end. It returns an error if the store can't be read. A restored or replaced store drives no saga from the
// beginning.
func New(ctx context.Context, config Config) (*Engine, error) {
	if config.Store == nil || config.Dispatcher == nil || config.Catalog == nil {
		return nil, errors.New("making an engine: a store, a dispatcher and a catalog are required")
	}
	if config.Observer == nil {
		config.Observer = NoObserver{}
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.Changed == nil {
		config.Changed = func(error) {}
	}
	if config.Writable == nil {
		config.Writable = func(error) {}
	}
	if config.Valid == nil {
		config.Valid = func() bool { return true }
	}
	if config.Fenced == nil {
		config.Fenced = func() {}
	}
	if config.now == nil {
		config.now = time.Now
	}
	if config.EventIDRetention <= 0 {
		config.EventIDRetention = 30 * 24 * time.Hour
	}
	if config.EvictAfter <= 0 {
		config.EvictAfter = 5 * time.Second
	}
	e := &Engine{config: &config, work: newWork(), register: newRegister(), starts: newStartLimiter(&config)}
	config.Observer = e.starts
	e.watchdog = newWatchdog(config.TurnLimit, config.Logger, config.Observer)
	replies := newReplyEvents(config.Catalog, config.Logger)
	e.loader = newLoader(e.config, e.work, e.watchdog, replies)
	e.loader.misused = e.misused
	e.waker = newWaker(e.config, e.work, func(id string) { e.driver.wake(id) })
	e.notifier = &notifier{
		observer: config.Observer, logger: config.Logger, turns: newReversals(config.Definitions, config.Logger),
		feeds: &feeds{work: e.work, read: e.loader.read, view: e.view},
	}
	e.writer = &writer{
		groups: newGroupCommitter(config.Store, config.Observer, &writable{
			store: config.Store, work: e.work, logger: config.Logger, changed: config.Writable,
		}, config.Fenced),
		replies: replies,
		waker:   e.waker, logger: config.Logger,
	}
	e.gate = &gate{
		store: config.Store, valid: config.Valid, work: e.work, logger: config.Logger,
		changed: func(condition error) {
			config.Changed(condition)
			e.notifier.feeds.conditionChanged()
		},
	}
	e.lost = &lostSagas{store: config.Store, catalog: config.Catalog}
	e.horizons = &horizons{store: config.Store, now: config.now, logger: config.Logger}
	sender := &sender{config: e.config, work: e.work, gate: e.gate, loader: e.loader}
	e.driver = &driver{
		config: e.config, work: e.work, gate: e.gate, horizons: e.horizons, register: e.register, loader: e.loader,
		writer: e.writer, waker: e.waker, sender: sender, notifier: e.notifier,
	}
	sender.driver = e.driver
	e.purger = &purger{
		store: config.Store, clock: newPurgeClock(&config), work: e.work, logger: config.Logger,
		retention: config.Retention, eventRetention: config.EventRetention, eventIDRetention: config.EventIDRetention,
		idRetention: config.IDRetention, childRetention: config.ChildRetention, participants: config.Participants,
		catalog: config.Catalog, definitions: slices.Sorted(maps.Keys(config.Definitions)),
	}
	if err := e.load(ctx); err != nil {
		e.Stop(ctx)
		return nil, err
	}
	return e, nil
}

// load reads what the engine must know before the first call.
func (e *Engine) load(ctx context.Context) error {
	if err := e.lost.load(ctx); err != nil {
		return err
	}
	if err := e.horizons.load(ctx); err != nil {
		return err
	}
	if err := e.purger.load(ctx); err != nil {
		return err
	}
	e.gate.open(e.config.Store.Identity())
	return nil
}

// misused suspends a saga whose code used its Context on another goroutine, if it is still open.
func (e *Engine) misused(saga, message string) {
	e.work.spawn(func() { e.driver.deliver(saga, machine.Misused{Message: message}) })
}

// Stop takes no new input, and answers those who await the end of a saga. It waits for the attempts in flight and for
// saga code that runs until ctx ends, cuts off the rest, and commits the outcomes. Sagas that haven't ended continue
// when the store is opened again. Later calls do nothing.
func (e *Engine) Stop(ctx context.Context) {
	if !e.work.Close() {
		return
	}
	defer e.watchdog.close()
	defer e.watchdog.hurryAfter(ctx)()
	e.waker.timers.close()
	e.purger.close()
	e.work.stop(ctx)
	e.writer.groups.close()
	e.register.releaseAll()
}

// Wake wakes sagas that are due because of an event, if the store knows it and the engine doesn't: another process has
// published the event. It returns at once.
func (e *Engine) Wake(sagas ...string) {
	for _, id := range sagas {
		e.waker.queue.add(id)
	}
}

// ask puts an input into a saga's mailbox and waits until its turn is durable.
func (e *Engine) ask(ctx context.Context, id string, in machine.Input) error {
	if err := e.gate.err(); err != nil {
		return err
	}
	answer := make(chan error, 1)
	if !e.work.spawn(func() {
		e.driver.sender.send(e.driver.submit(id, message{input: in, answer: answer}))
	}) {
		return ErrStopping
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
