// Package process runs one of Acme's services as a separate process. It holds what the services' main functions have in
// common: flags, signals, logging, OpenTelemetry, the database with its inbox, and the gRPC server.
//
// A service describes itself with a [Service] and passes it to [Main]:
//
//	func main() {
//		process.Main(process.Service{
//			Name: "card", Listen: "127.0.0.1:7104",
//			Database: sqlitedb.Params{Migrations: migrations}, Register: register,
//		})
//	}
package process

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/services/internal/sqlitedb"
)

// Service describes a service to [Main].
type Service struct {
	// Name is the service's name in its flags, logs and telemetry. The database file is named after it by default.
	Name string

	// Listen is the default address to listen on, "host:port".
	Listen string

	// Database describes the service's own database. Path is set from the flag --db.
	Database sqlitedb.Params

	// Kept are the gRPC services all of whose commands go through the inbox, by their full names.
	Kept []string

	// AddFlags defines flags beyond those that every service has. It may be nil.
	AddFlags func(*flag.FlagSet)

	// Register registers the service's handlers with p.Server, and starts everything else that the service needs. The
	// context ends when the process stops. If Register returns an error, the process stops.
	Register func(ctx context.Context, p *Process) error
}

// Process is what a running service is given.
type Process struct {
	// Server is the gRPC server. It listens, and starts to serve when Register has returned.
	Server *participant.Server

	// Store is the service's database, opened and migrated.
	Store *sqlitedb.Store

	// DatabasePath is the path of the database file.
	DatabasePath string

	// Insecure says whether plaintext is allowed beyond loopback.
	Insecure bool

	running sync.WaitGroup
	stops   []func() error
}

// Go runs f in a goroutine. When the process stops, it waits for f, which must return when Register's context ends.
func (p *Process) Go(f func()) { p.running.Go(f) }

// OnStop adds a function to call when the process stops. They are called in reverse order, after the server has stopped
// and all goroutines started by Go have returned, and before the database is closed.
func (p *Process) OnStop(f func() error) { p.stops = append(p.stops, f) }

// stop waits for the goroutines and calls the functions given to OnStop.
func (p *Process) stop() error {
	p.running.Wait()
	var errs []error
	for _, stop := range slices.Backward(p.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// exportTimeout is how long the last export of telemetry may take.
const exportTimeout = 5 * time.Second

// run runs a service until ctx ends.
func run(ctx context.Context, service Service, args []string) (err error) {
	flags, settings := newFlags(service)
	if err := parse(flags, args); err != nil {
		return err
	}
	if err := settings.check(); err != nil {
		return err
	}
	stopTelemetry, err := startTelemetry(ctx, service.Name)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout)
		defer cancel()
		if err := stopTelemetry(ctx); err != nil {
			slog.Warn("the last spans and metrics were lost; nothing else is affected", "error", err)
		}
	}()
	database := service.Database
	database.Path = settings.database
	settings.inbox.Methods = service.Kept
	store, err := sqlitedb.OpenStore(ctx, database, settings.inbox)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	settings.server.Keepers = []participant.Keeper{store.Inbox}
	server, err := participant.NewServer(settings.server)
	if err != nil {
		return err
	}
	p := &Process{
		Server: server, Store: store, DatabasePath: settings.database, Insecure: settings.server.Insecure,
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := service.Register(ctx, p); err != nil {
		return err
	}
	fmt.Fprintf(os.Stdout, "%s listening on %s\n", service.Name, server.Addr())
	return server.Serve(ctx)
}
