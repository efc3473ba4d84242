// Command credit is Acme's credit service: how much a person may owe. It is a participant of sagas.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant"
)

func main() { participant.Main("credit", run) }

func run(ctx context.Context, args []string) (err error) {
	options := participant.Options{Name: "credit", Listen: "127.0.0.1:7103"}
	flags := flag.NewFlagSet("credit", flag.ContinueOnError)
	options.AddFlags(flags)
	path := flags.String("db", "credit.db", "SQLite database `file`; created when it isn't there")
	retention := flags.Duration("inbox-retention", 0, "how long answers to commands are kept, longer than any saga lasts; 0 keeps them for ever")
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
	server, err := participant.NewServer(options)
	if err != nil {
		return err
	}
	service := &service{store: store}
	creditv1.RegisterCreditServiceServer(server, service)
	privacyv1.RegisterUserDataServiceServer(server, service)
	fmt.Fprintf(os.Stdout, "credit listening on %s\n", server.Addr())
	return server.Serve(ctx)
}
