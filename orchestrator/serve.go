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
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/treatyhq/treaty/internal/heapfloor"
	"github.com/treatyhq/treaty/internal/progress"
	"github.com/treatyhq/treaty/orchestrator/internal/audit"
	"github.com/treatyhq/treaty/orchestrator/internal/dispatch"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/postgres"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sealed"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

const (
	// drainTimeout is how long callers may wait for the end of a saga once the orchestrator is stopping.
	drainTimeout = 2 * time.Second

	// stopTimeout is how long attempts in flight may take to end.
	stopTimeout = 10 * time.Second

	// handOverTimeout is how long attempts in flight may take to end when their shard is handed over.
	handOverTimeout = 250 * time.Millisecond

	// closeTimeout is how long the connections to participants may take to close.
	closeTimeout = time.Second

	// exportTimeout is how long the export of the last spans and metrics may take.
	exportTimeout = 5 * time.Second
)

// Serve runs sagas and serves the API on the listener until ctx ends, and closes the listener. Then it stops
// gracefully: it accepts no new calls, lets attempts in flight end for up to ten seconds, records their outcomes, and
// returns nil. It doesn't wait for saga code that blocks. Sagas that haven't ended continue when the store is opened
// again.
//
// The errors are those of the registered definitions, of plaintext beyond loopback, of the store (ErrStoreLocked,
// ErrStoreCorrupt, ErrStoreVersion, ErrStoreReadOnly, ErrStoreFull, ErrStoreKey), and of the network. It stops and
// returns ErrStoreGone if the store's file is deleted or replaced while it is open, and ErrStoreBroken if the store's
// engine fails.
func (o *Orchestrator) Serve(ctx context.Context, listener net.Listener) (err error) {
	defer func() { _ = listener.Close() }() // the server may have closed it before
	code, err := o.code()
	if err != nil {
		return err
	}
	if err := o.settings.checkTransport(listener); err != nil {
		return err
	}
	if err := o.settings.checkAccess(listener); err != nil {
		return err
	}

	defer heapfloor.Hold(o.settings.heapFloor)()
	r := running{o: o, code: code, logger: o.logger, conditions: make(map[string]error)}
	defer func() { err = errors.Join(err, r.stop()) }()
	if r.telemetry, err = telemetry.New(ctx, telemetry.Config{
		Logger: o.logger, SpanExporter: o.settings.spanExporter, SpanProcessors: o.settings.spanProcessors,
		Sampler: o.settings.spanSampler, MetricReader: o.settings.metricReader, Resource: o.settings.resource,
	}); err != nil {
		return err
	}
	opened := progress.Watch(func(elapsed time.Duration) {
		o.logger.Info("opening the store", "store", stores.Display(o.settings.store), "elapsed", elapsed)
	})
	err = r.open(ctx)
	opened()
	if err != nil {
		return err
	}
	memory, err := newParticipantMemory(ctx, r.store)
	if err != nil {
		return err
	}
	r.dispatcher, err = dispatch.New(dispatch.Config{
		Participants: o.participants, Telemetry: r.telemetry, Logger: o.logger, Scopes: true,
		Memory: memory, Expected: expected(o.catalog),
	})
	if err != nil {
		return err
	}
	observer := &observer{telemetry: r.telemetry, catalog: o.catalog}
	if err := observer.countSuspended(ctx, r.store); err != nil {
		return err
	}
	if err := r.telemetry.ObserveStore(func() (file, log int64) {
		size := r.store.Size()
		return size.File, size.Log
	}); err != nil {
		return err
	}
	r.observer, r.mark = observer, &traceMark{telemetry: r.telemetry, store: r.store, logger: o.logger, now: time.Now}
	if observer.exportSince, err = r.mark.begin(ctx, r.store.Identity().Traced); err != nil {
		return fmt.Errorf("preparing to export spans: %w", err)
	}
	api, err := r.drive(ctx, listener)
	if err != nil {
		return err
	}
	if o.settings.audit != nil {
		r.audit = audit.New(o.settings.audit)
	}
	r.server, err = server.New(server.Config{
		Engine: api, Store: r.store, Name: o.settings.name, Catalog: o.catalog,
		Definitions: slices.Sorted(maps.Keys(code)),
		Telemetry:   r.telemetry, Logger: o.logger, TLS: o.tls, Identities: o.identities, Parents: o.parents,
		Options: o.settings.serverOptions, Tokens: o.settings.tokens,
		Audit: r.audit, Authorizer: o.settings.authorizer, Exposed: o.settings.exposed(listener),
		Participants: r.dispatcher.Describe, Quota: o.settings.streams.quota(), CallerStarts: o.settings.callerStarts,
		ConnectionAge: o.settings.connectionAge, NoReflection: o.settings.grpcServices.noReflection,
		NoChannelz: !o.settings.channelzOn(listener), EventLimit: o.settings.eventLimit,
	})
	if err != nil {
		return err
	}
	o.settings.warnAboutServices(o.logger, o.catalog, r.children().Local)
	o.settings.warnAboutInsecure(o.logger)
	o.settings.warnAboutOpenAccess(o.logger, listener)
	o.warnAboutIdentities(listener)
	return o.run(ctx, &r, listener)
}

// ListenAndServe is Serve on a TCP address, e.g. "127.0.0.1:7080", or on a Unix socket, e.g. "unix:/run/acme/api". Port
// 0 is a free port. The file of a socket can be written by the user of this process only; whoever can, may call the
// API.
func (o *Orchestrator) ListenAndServe(ctx context.Context, address string) error {
	listener, err := listen(ctx, address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && strings.HasPrefix(address, socketPrefix):
		return fmt.Errorf("listening on %s: the file is in use: stop the program that uses it, or choose another path",
			address)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listening on %s: the port is in use: stop the program that uses it, or choose another port",
			address)
	case errors.Is(err, syscall.EACCES) && !strings.HasPrefix(address, socketPrefix):
		return fmt.Errorf("listening on %s: not allowed: choose a port above 1023", address)
	case err != nil:
		return fmt.Errorf("listening on %s: %w", address, cause(err))
	}
	return o.Serve(ctx, listener)
}

// cause returns the cause of a network error, without the address that the message names anyway.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// retention returns how long the sagas of each definition are kept, unless a parent may still compensate them.
// Definitions whose sagas are kept forever are left out.
func (o *Orchestrator) retention(code map[string]machine.Code) map[string]time.Duration {
	retentions := make(map[string]time.Duration)
	var own []string // definitions whose contracts say how long
	for name := range code {
		saga, _ := o.catalog.SagaDefinition(name)
		if d := cmp.Or(saga.Retention, o.settings.retention); d > 0 {
			retentions[name] = d
		}
		if saga.Retention > 0 {
			own = append(own, name+" "+saga.Retention.String())
		}
	}
	if o.settings.retention > 0 && len(own) > 0 {
		slices.Sort(own)
		o.logger.Info("--retention doesn't apply to the sagas of definitions whose contracts set another one",
			"retention", o.settings.retention, "other", own)
	}
	return retentions
}

// run recovers and serves until ctx ends.
func (o *Orchestrator) run(parent context.Context, r *running, listener net.Listener) error {
	ctx, cancel := context.WithCancel(parent)
	var watching sync.WaitGroup
	watching.Go(func() { (&logSize{store: r.store, logger: o.logger}).run(ctx) })
	if o.policy != nil {
		watching.Go(func() { o.policy.Watch(ctx) })
	}
	defer watching.Wait()
	defer cancel()
	var err error
	if r.stopHealth, err = o.serveHealth(ctx, r); err != nil {
		return err
	}
	// Calls are answered while sagas are recovered. The health service reports SERVING when that is done.
	r.serving = make(chan struct{})
	var serveErr error
	go func() {
		defer close(r.serving)
		defer cancel()
		serveErr = r.server.Serve(&watchedListener{Listener: listener, logger: o.logger})
	}()
	recovered, err := r.recover(ctx)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("recovering sagas: %w", err)
	}
	r.keepMark()
	if ctx.Err() == nil {
		r.recovered()
		o.logger.InfoContext(ctx, "serving", "address", addressFrom(listener), "transport", o.settings.transport(),
			"store", r.store.Name(), "recovered", recovered, "services", r.server.Services())
		if o.settings.ready != nil {
			o.settings.ready(Ready{
				Address: addressFrom(listener), Transport: o.settings.transport(), Store: r.store.Name(),
				Recovered: recovered,
			})
		}
	}
	select {
	case <-ctx.Done():
	case <-r.store.Gone():
		o.logger.Error("stopping: the store's file was deleted or replaced; "+
			"what was acknowledged since is lost, so restore the store from a backup", "store", r.store.Name())
		return nil // closing the store returns the error
	case <-r.store.Failed():
		o.logger.Error("stopping: the store's engine has failed; nothing that was acknowledged is lost, "+
			"and the sagas continue once the orchestrator is started again", "store", r.store.Name())
		return nil // closing the store returns the error
	}
	if parent.Err() == nil {
		<-r.serving
		return serveErr
	}
	o.logger.Info("stopping")
	return nil
}

// running is everything that must be stopped at the end.
type running struct {
	o          *Orchestrator
	code       map[string]machine.Code
	logger     *slog.Logger
	telemetry  *telemetry.Telemetry
	store      database
	own        journal.Store      // the store, if no other process shares it; else nil
	shared     *postgres.Database // the store, if others share it; else nil
	keys       *sealed.Keys       // of a shared store; nil if it isn't sealed
	dispatcher *dispatch.Dispatcher
	only       *driven // all sagas of a store that isn't shared; nil before it was made
	share      *share  // what is driven of a shared one; nil before it was made
	server     *server.Server
	serving    chan struct{} // closed when the server has stopped; nil before it was started
	audit      *audit.Log    // nil: none
	observer   *observer
	mark       *traceMark
	stopHealth func() // ends the health checks without TLS; nil before they have begun
	marking    func() // ends the goroutine that keeps the mark; nil if there is none

	mu         sync.Mutex
	conditions map[string]error // why sagas aren't driven, by scope
	unwritable error            // why the store refuses commits, or nil
	ready      bool             // all open sagas have been recovered
}

// keepMark exports the spans again that the last process may have lost, and keeps the mark, until stop is called. It
// does nothing if no spans are exported.
func (r *running) keepMark() {
	if !r.telemetry.Tracing() || r.only == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r.marking = func() {
		cancel()
		<-ended
	}
	go func() {
		defer close(ended)
		r.mark.run(ctx, r.observer.exportSince, r.only.engine.Settled, r.observer.export)
	}()
}

// stop stops what was started, in an order that loses nothing: first the calls, then the attempts, then the store.
func (r *running) stop() error {
	defer progress.Watch(func(elapsed time.Duration) { r.logger.Info("still stopping", "elapsed", elapsed) })()
	var errs []error
	var leaving sync.WaitGroup
	if r.share != nil {
		leaving.Go(r.share.leave) // at once, since others go on with the sagas; callers wait there
	}
	if r.serving != nil {
		ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
		r.server.Drain(ctx)
		cancel()
	}
	if r.only != nil {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		r.only.stop(ctx)
		cancel()
	}
	leaving.Wait()
	if r.serving != nil {
		r.server.Close()
		<-r.serving
	}
	if r.audit != nil {
		r.audit.Close()
	}
	if r.stopHealth != nil {
		r.stopHealth()
	}
	if r.dispatcher != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		errs = append(errs, r.dispatcher.Close(ctx))
		cancel()
	}
	if r.marking != nil {
		r.marking()
		ctx, cancel := context.WithTimeout(context.Background(), confirmTimeout)
		r.mark.move(ctx, 0) // nothing more will happen
		cancel()
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	ctx, cancel := context.WithTimeout(context.Background(), exportTimeout)
	defer cancel()
	if err := r.telemetry.Shutdown(ctx); err != nil {
		r.logger.Warn("the last spans and metrics were lost; sagas aren't affected", "error", err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("stopping: %w", err)
	}
	return nil
}
