// Command go is the twin in Go of Acme's notification service, for machines without Node. It has the same contract and the same
// database file; either can take over from the other.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/participant"
)

func main() { participant.Main("notification", run) }

func run(ctx context.Context, args []string) (err error) {
	options := participant.Options{Name: "notification", Listen: "127.0.0.1:7105"}
	flags := flag.NewFlagSet("notification", flag.ContinueOnError)
	options.AddFlags(flags)
	path := flags.String("db", "notification.db", "SQLite database `file`; created when it isn't there")
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
	notificationv1.RegisterNotificationServiceServer(server, service)
	privacyv1.RegisterUserDataServiceServer(server, service)
	fmt.Fprintf(os.Stdout, "notification listening on %s\n", server.Addr())
	return server.Serve(ctx)
}
