package orchestrator

import (
	"context"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/treatyhq/treaty/internal/progress"
	"github.com/treatyhq/treaty/orchestrator/internal/childsaga"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/postgres"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// database is a store as what doesn't drive sagas uses it.
type database interface {
	journal.Reader
	server.Store
	participantStore
	traceStore
	stores.Handle

	Gone() <-chan struct{}
	Failed() <-chan struct{}
	Size() journal.Size
}

// open opens the store.
func (r *running) open(ctx context.Context) (err error) {
	opening := journal.Opening{Name: r.o.settings.name}
	if stores.Shared(r.o.settings.store) {
		return r.openShared(ctx, opening)
	}
	store, err := stores.Open(ctx, r.o.settings.store, opening)
	if err != nil {
		return err
	}
	r.store, r.own = store, store
	if store, err = r.o.sealed(ctx, store); err == nil {
		r.store, r.own = store, store
	}
	return err
}

// openShared opens a store that other processes share.
func (r *running) openShared(ctx context.Context, opening journal.Opening) (err error) {
	if r.shared, err = postgres.Connect(ctx, r.o.settings.store, opening); err != nil {
		return err
	}
	r.store = r.shared
	if r.keys, err = r.o.keys(); err != nil {
		return err
	}
	reader, err := stores.SealReader(ctx, r.shared, r.keys)
	if r.keys != nil && err == nil {
		r.store = sealedDatabase{Reader: reader, plainDatabase: r.shared}
	}
	return err
}

// sealedDatabase is a shared store whose payloads are sealed.
type sealedDatabase struct {
	stores.Reader
	plainDatabase
}

// plainDatabase is the part of a database in which nothing is sealed, apart from what stores.Reader has.
type plainDatabase interface {
	Hear(ctx context.Context, told journal.HeardScope) (before journal.HeardScope, err error)
	Consumer(ctx context.Context, given journal.Consumer) (journal.Consumer, error)
	Acknowledge(ctx context.Context, name string, position uint64, principal string) error
	PutParticipant(ctx context.Context, participant journal.Participant) error
	NoteTraced(ctx context.Context, until time.Time) error
	Gone() <-chan struct{}
	Failed() <-chan struct{}
	Size() journal.Size
}

// drive prepares to drive sagas, and returns what the API calls.
func (r *running) drive(ctx context.Context, listener net.Listener) (server.Engine, error) {
	if r.shared != nil {
		var err error
		if r.share, err = newShare(r, listener); err != nil {
			return nil, err
		}
		return r.share.engines, nil
	}
	var err error
	if r.only, err = r.newDriven(ctx, r.own, driving{shard: theShard, purges: true}); err != nil {
		return nil, err
	}
	return server.Drive(r.only.engine), nil
}

// recover lets the sagas continue that haven't ended, and returns how many there are. Those of a shared store continue
// when this process acquires their shards.
func (r *running) recover(ctx context.Context) (recovered int, err error) {
	if r.share != nil {
		return 0, r.share.join(ctx)
	}
	e := r.only.engine
	defer progress.Watch(func(elapsed time.Duration) {
		r.logger.Info("recovering sagas", "recovered", e.Recovered(), "elapsed", elapsed)
	})()
	return e.Recover(ctx)
}

// driving says how a shard is driven.
type driving struct {
	shard  string
	valid  func() bool // see engine.Config
	fenced func()      // see engine.Config
	purges bool        // this shard's engine deletes what is older than its retention, of all shards
}

// driven is a shard whose sagas are driven here.
type driven struct {
	running *running
	name    string // its scope
	engine  *engine.Engine
	scope   *dispatch.Scope
	set     chan struct{} // closed once engine is set, or never will be
	valid   func() bool   // nil: always
}

// children returns what starts the sagas that are steps of others.
func (r *running) children() *childsaga.Children {
	return childsaga.New(childsaga.Params{
		Participants: r.dispatcher, Observer: r.observer, Catalog: r.o.catalog,
		Definitions: slices.Sorted(maps.Keys(r.code)), Remote: r.o.settings.services(), Telemetry: r.telemetry,
	})
}

// newDriven makes the engine of a shard. Stop it at the end.
func (r *running) newDriven(ctx context.Context, store journal.Store, how driving) (*driven, error) {
	d := &driven{running: r, set: make(chan struct{}), valid: how.valid}
	self := d.self(store, how.shard)
	d.name, d.scope = self.Scope, r.dispatcher.Open(self)
	children := r.children()
	settings := r.o.settings
	config := engine.Config{
		Store: store, Scope: self.Scope, Dispatcher: children, Catalog: r.o.catalog, Definitions: r.code,
		Observer: children, Participants: d.scope, Local: children.Local, Logger: r.logger,
		Changed: func(condition error) { r.conditionChanged(self.Scope, condition) },
		Valid:   how.valid, Fenced: how.fenced, Writable: r.writableChanged,
		StartLimits: settings.starts, TurnLimit: settings.turnLimit,
	}
	if how.purges {
		config.Retention, config.ChildRetention = r.o.retention(r.code), settings.childRetention
		config.EventRetention, config.EventIDRetention = settings.eventRetention, settings.eventIDs
		if r.shared == nil {
			config.IDRetention = settings.sagaIDs // else it isn't known which horizon is of which shard
		}
	}
	var err error
	d.engine, err = engine.New(ctx, config)
	close(d.set) // first: those who ask participants wait for it, and Close for them
	if err != nil {
		d.scope.Close()
		return nil, err
	}
	children.SetEngine(d.engine)
	return d, nil
}

// replaced is called when a participant knows a later epoch. If another process owns the shard by now, that is why.
func (d *driven) replaced(cause string, epoch uint64) {
	if d.valid == nil || d.valid() {
		d.engine.Replaced(cause, epoch)
	}
}

// stop ends what newDriven began. Attempts in flight may end until ctx ends.
func (d *driven) stop(ctx context.Context) {
	d.engine.Stop(ctx)
	if d.running.shared != nil {
		d.scope.Close()
		d.running.conditionChanged(d.name, nil)
	}
}
