package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/internal/heapfloor"
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

// participantFlags say what a participant is like.
type participantFlags struct {
	secure                      string
	library, tracing, heapFloor bool
	inbox, address, calls       string
	capacity                    float64
}

func participantCommand() *cobra.Command {
	var f participantFlags
	cmd := &cobra.Command{
		Use: "participant", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringVar(&f.inbox, "inbox", "", "the directory of the inbox's database; empty: no inbox")
	cmd.Flags().StringVar(&f.address, "listen", freePort, "the address to listen on, without --library")
	cmd.Flags().BoolVar(&f.library, "library", false, "serve as participant does, not as plain gRPC")
	cmd.Flags().BoolVar(&f.tracing, "tracing", false, "export spans")
	cmd.Flags().BoolVar(&f.heapFloor, "heap-floor", false, "collect garbage seldom while the heap is small")
	cmd.Flags().Float64Var(&f.capacity, "capacity", 0, "execute commands one at a time, and this many per second")
	cmd.Flags().StringVar(&f.secure, "certificates", "",
		"the directory of the certificates, with --library; empty: plaintext")
	cmd.Flags().StringVar(&f.calls, "calls", "", "the file that gets the number of calls, with --capacity")
	return cmd
}

func (f *participantFlags) run(cmd *cobra.Command) (err error) {
	if f.heapFloor {
		defer heapfloor.Hold(0)()
	}
	var service benchv1.WorkServiceServer = work{}
	if f.inbox != "" {
		db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(filepath.Join(f.inbox, "participant.db")))
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
	if f.capacity > 0 {
		limited := newLimitedWork(f.capacity)
		service = limited
		defer func() {
			err = errors.Join(err, os.WriteFile(f.calls, fmt.Append(nil, limited.calls.Load()), 0o600))
		}()
	}
	var options []grpc.ServerOption
	if f.tracing {
		shutDown, err := startTracing(cmd.Context(), "bench-participant")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, shutDown()) }()
		options = append(options, tracedServer())
	}
	if f.library {
		return serveWithLibrary(cmd, service, secureDir(f.secure))
	}
	server := grpc.NewServer(options...)
	benchv1.RegisterWorkServiceServer(server, service)
	return serve(cmd.Context(), f.address, cmd.OutOrStdout(), server)
}

// serveWithLibrary serves with the participant library.
func serveWithLibrary(cmd *cobra.Command, service benchv1.WorkServiceServer, secure secureDir) error {
	server, err := participant.NewServer(secure.participant(participant.Options{
		Logger: warnings(cmd.ErrOrStderr()),
	}))
	if err != nil {
		return fmt.Errorf("making the participant: %w", err)
	}
	benchv1.RegisterWorkServiceServer(server, service)
	fmt.Fprintln(cmd.OutOrStdout(), ready+server.Addr().String())
	return server.Serve(cmd.Context())
}
