// Command identity is Acme's identity service: that people are who they say they are. It is a participant of sagas, with a slow
// third party behind it. Unless --register-url names one, it plays that third party itself, on a port of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/services/identity/thirdparty"
)

func main() { participant.Main("identity", run) }

func run(ctx context.Context, args []string) (err error) {
	options := participant.Options{Name: "identity", Listen: "127.0.0.1:7102"}
	flags := flag.NewFlagSet("identity", flag.ContinueOnError)
	options.AddFlags(flags)
	path := flags.String("db", "identity.db", "SQLite database `file`; created when it isn't there")
	retention := flags.Duration("inbox-retention", 0, "how long answers to commands are kept, longer than any saga lasts; 0 keeps them for ever")
	url := flags.String("register-url", "", "`URL` of the identity register; empty plays one, with the database file of --db and \".register\"")
	latency := flags.Duration("register-latency", 250*time.Millisecond, "how long the played register takes to answer")
	decideAfter := flags.Duration("register-decides-after", 2*time.Second, "how long after a registration the played register decides and publishes what it decided")
	inspectionTakes := flags.Duration("inspection-takes", time.Second, "how long the played clerk takes to inspect a passport")
	var orchestrator orchestrator
	orchestrator.addFlags(flags)
	if err := participant.ParseFlags(flags, args); err != nil {
		return err
	}
	stopTelemetry, err := participant.Telemetry(ctx, options.Name)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err = errors.Join(err, stopTelemetry(ctx))
	}()
	store, err := openStore(ctx, *path, *retention)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	connection, err := orchestrator.dial(options.Insecure)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	if *url == "" {
		register := thirdparty.Params{Path: *path + ".register", Latency: *latency, DecideAfter: *decideAfter}
		played, stop, err := play(ctx, register, treatyv1.NewEventServiceClient(connection))
		if err != nil {
			return err
		}
		defer stop()
		*url = played
	}
	register, err := newRegister(*url)
	if err != nil {
		return err
	}
	server, err := participant.NewServer(options)
	if err != nil {
		return err
	}
	inspector := newInspector(store, participant.NewCompleter(connection), *inspectionTakes)
	service := &service{store: store, register: register, inspector: inspector}
	identityv1.RegisterIdentityServiceServer(server, service)
	privacyv1.RegisterUserDataServiceServer(server, service)
	var inspecting sync.WaitGroup
	defer inspecting.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	inspecting.Go(func() { inspector.run(ctx) })
	fmt.Fprintf(os.Stdout, "identity listening on %s\n", server.Addr())
	return server.Serve(ctx)
}

// play starts the third party and returns its URL.
func play(ctx context.Context, params thirdparty.Params, publisher thirdparty.Publisher) (url string, stop func(), err error) {
	register, err := thirdparty.Open(ctx, params)
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("starting the register: %w", err), register.Close())
	}
	server := &http.Server{Handler: register, ReadHeaderTimeout: 10 * time.Second}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	// It ends with ErrServerClosed; should it end by itself, the service's calls to it fail.
	running.Go(func() { _ = server.Serve(listener) })
	running.Go(func() { register.Run(ctx, publisher) })
	return "http://" + listener.Addr().String(), func() {
		cancel()
		_ = server.Close()
		running.Wait()
		_ = register.Close()
	}, nil
}
