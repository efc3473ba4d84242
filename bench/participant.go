package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver
	"github.com/spf13/cobra"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// work is a participant that does nothing, as fast as gRPC allows.
type work struct {
	benchv1.UnimplementedWorkServiceServer
}

func (work) Work(_ context.Context, in *benchv1.WorkRequest) (*benchv1.WorkDone, error) {
	if in.GetRefuse() {
		return nil, status.Error(codes.FailedPrecondition, "refused, as requested")
	}
	return &benchv1.WorkDone{Payload: in.GetPayload()}, nil
}

func (work) UndoWork(context.Context, *benchv1.UndoWorkRequest) (*benchv1.WorkUndone, error) {
	return &benchv1.WorkUndone{}, nil
}

// durableWork is a participant whose every command is a durable transaction with the inbox.
type durableWork struct {
	benchv1.UnimplementedWorkServiceServer

	inbox *inbox.Inbox
}

func (d durableWork) Work(ctx context.Context, in *benchv1.WorkRequest) (*benchv1.WorkDone, error) {
	return inbox.Handle(ctx, d.inbox, func(*inbox.Tx) (*benchv1.WorkDone, error) { return work{}.Work(ctx, in) })
}

func (d durableWork) UndoWork(ctx context.Context, in *benchv1.UndoWorkRequest) (*benchv1.WorkUndone, error) {
	return inbox.Handle(ctx, d.inbox, func(*inbox.Tx) (*benchv1.WorkUndone, error) { return work{}.UndoWork(ctx, in) })
}

func participantCommand() *cobra.Command {
	var dir, calls, address string
	var tracing bool
	var capacity float64
	cmd := &cobra.Command{
		Use: "participant", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			var service benchv1.WorkServiceServer = work{}
			if dir != "" {
				db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(filepath.Join(dir, "participant.db")))
				if err != nil {
					return fmt.Errorf("opening the participant's database: %w", err)
				}
				defer db.Close()
				db.SetMaxOpenConns(8) // as the example services
				in, err := inbox.OpenSQLite(cmd.Context(), db, inbox.Options{})
				if err != nil {
					return fmt.Errorf("opening the participant's inbox: %w", err)
				}
				service = durableWork{inbox: in}
			}
			if capacity > 0 {
				limited := newLimitedWork(capacity)
				service = limited
				defer func() {
					err = errors.Join(err, os.WriteFile(calls, fmt.Append(nil, limited.calls.Load()), 0o600))
				}()
			}
			if !tracing {
				server := grpc.NewServer()
				benchv1.RegisterWorkServiceServer(server, service)
				return serve(cmd.Context(), address, cmd.OutOrStdout(), server)
			}
			return serveTraced(cmd, service)
		},
	}
	cmd.Flags().StringVar(&dir, "inbox", "", "the directory of the inbox's database; empty: no inbox")
	cmd.Flags().StringVar(&address, "listen", freePort, "the address to listen on, without --tracing")
	cmd.Flags().BoolVar(&tracing, "tracing", false, "serve as participant does, with spans")
	cmd.Flags().Float64Var(&capacity, "capacity", 0, "execute commands one at a time, and this many per second")
	cmd.Flags().StringVar(&calls, "calls", "", "the file that gets the number of calls, with --capacity")
	return cmd
}

// serveTraced serves with the participant library, whose spans go where the environment says.
func serveTraced(cmd *cobra.Command, service benchv1.WorkServiceServer) error {
	exporter, err := autoexport.NewSpanExporter(cmd.Context())
	if err != nil {
		return fmt.Errorf("setting up the export of spans: %w", err)
	}
	otel.SetTextMapPropagator(propagation.TraceContext{})
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(time.Second)),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "bench-participant"))))
	otel.SetTracerProvider(provider)
	server, err := participant.NewServer(participant.Options{})
	if err != nil {
		return fmt.Errorf("making the participant: %w", err)
	}
	benchv1.RegisterWorkServiceServer(server, service)
	fmt.Fprintln(cmd.OutOrStdout(), ready+server.Addr().String())
	return errors.Join(server.Serve(cmd.Context()), shutDown(provider))
}

// shutDown exports the spans that are left, if the collector still runs.
func shutDown(provider *sdktrace.TracerProvider) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace/2)
	defer cancel()
	return provider.Shutdown(ctx)
}
