package orchestrator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/childsaga"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sqlite"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

const (
	// drainTime is how long callers that wait for a saga get to see its end, once stopping began.
	drainTime = 2 * time.Second

	// stopTime is how long attempts under way may take to end.
	stopTime = 10 * time.Second

	// exportTime bounds the export of the last spans and metrics.
	exportTime = 5 * time.Second
)

// Serve runs sagas and serves the API on the listener, which it closes in the end, until ctx ends. Then it stops gracefully: it takes no
// new calls, lets attempts under way end for up to ten seconds, makes durable what came of them, and returns nil. What isn't
// finished goes on when the store is opened again.
//
// The errors: what is wrong with the registered definitions, or with listening there in plaintext; the store's
// (journal.ErrLocked, ErrCorrupt, ErrVersion, ErrReadOnly, ErrFull); and those of the network.
func (o *Orchestrator) Serve(ctx context.Context, listener net.Listener) (err error) {
	defer func() { _ = listener.Close() }() // a second time where serving has closed it
	code, err := o.code()
	if err != nil {
		return err
	}
	if err := o.confined(listener); err != nil {
		return err
	}

	r := running{logger: o.logger}
	defer func() { err = errors.Join(err, r.stop()) }()
	if r.telemetry, err = telemetry.New(ctx, telemetry.Config{Logger: o.logger}); err != nil {
		return err
	}
	if r.store, err = sqlite.Open(ctx, o.settings.store); err != nil {
		return err
	}
	r.dispatcher, err = dispatch.New(dispatch.Config{
		Participants: o.participants, Telemetry: r.telemetry, Logger: o.logger, Discovery: broadcasts(o.catalog),
	})
	if err != nil {
		return err
	}
	observer := &observer{telemetry: r.telemetry}
	if err := observer.countSuspended(ctx, r.store); err != nil {
		return err
	}
	definitions := slices.Sorted(maps.Keys(code))
	children := childsaga.New(childsaga.Params{
		Participants: r.dispatcher, Observer: observer, Catalog: o.catalog, Definitions: definitions,
		Remote: o.settings.services(), Telemetry: r.telemetry,
	})
	r.engine, err = engine.New(engine.Config{
		Store: r.store, Dispatcher: children, Catalog: o.catalog, Definitions: code, Observer: children, Logger: o.logger,
		Retention: o.retention(code), EventRetention: o.settings.eventRetention,
	})
	if err != nil {
		return err
	}
	children.SetEngine(r.engine)
	r.server, err = server.New(server.Config{
		Engine: server.Drive(r.engine), Store: r.store, Catalog: o.catalog, Definitions: definitions,
		Telemetry: r.telemetry, Logger: o.logger, TLS: o.tls,
	})
	if err != nil {
		return err
	}
	o.warnOfUnserved(o.logger, children.Local)
	return o.run(ctx, &r, listener)
}

// retention says how long the sagas of each definition are kept; those that are kept for ever are left out. So are those that a parent may
// undo long after they succeeded: what is gone can't be undone.
func (o *Orchestrator) retention(code map[string]machine.Code) map[string]time.Duration {
	kept := make(map[string]time.Duration)
	for name := range code {
		saga, _ := o.catalog.SagaDefinition(name)
		if saga.Kind == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE {
			if saga.Retention > 0 {
				o.logger.Warn("sagas of a definition are kept for ever in spite of its retention, since a parent may still undo them", "definition", name)
			}
			continue
		}
		if d := cmp.Or(saga.Retention, o.settings.retention); d > 0 {
			kept[name] = d
		}
	}
	return kept
}

// run recovers and serves until ctx ends.
func (o *Orchestrator) run(parent context.Context, r *running, listener net.Listener) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	// Calls are answered while sagas are recovered; health tells when that is done.
	r.serving = make(chan struct{})
	var broken error
	go func() {
		defer close(r.serving)
		defer cancel()
		broken = r.server.Serve(listener)
	}()
	recovered, err := r.engine.Recover(ctx)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("recovering sagas: %w", err)
	}
	if ctx.Err() == nil {
		r.server.SetReady()
		o.logger.InfoContext(ctx, "serving", "address", listener.Addr().String(), "transport", o.settings.transport(),
			"store", r.store.Path(), "recovered", recovered, "services", r.server.Services())
		if o.settings.ready != nil {
			o.settings.ready(Ready{
				Address: listener.Addr().String(), Transport: o.settings.transport(), Store: r.store.Path(), Recovered: recovered,
			})
		}
	}
	<-ctx.Done()
	if parent.Err() == nil {
		<-r.serving
		return broken
	}
	o.logger.Info("stopping")
	return nil
}

// running is what is to be stopped in the end.
type running struct {
	logger     *slog.Logger
	telemetry  *telemetry.Telemetry
	store      *sqlite.Store
	dispatcher *dispatch.Dispatcher
	engine     *engine.Engine
	server     *server.Server
	serving    chan struct{} // closed when serving has ended; nil before it began
}

// stop stops what was started, in the order in which it loses nothing: first no more calls, then no more attempts, then the store.
func (r *running) stop() error {
	var errs []error
	if r.serving != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drainTime)
		r.server.Drain(ctx)
		cancel()
	}
	if r.engine != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTime)
		r.engine.Stop(ctx)
		cancel()
	}
	if r.serving != nil {
		r.server.Close()
		<-r.serving
	}
	if r.dispatcher != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		errs = append(errs, r.dispatcher.Close(ctx))
		cancel()
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), exportTime)
	defer cancel()
	if err := r.telemetry.Shutdown(ctx); err != nil {
		r.logger.Warn("the last spans and metrics are lost; sagas aren't affected", "error", err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	return nil
}
