package participant_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// inspections is a service with a command that a clerk completes.
type inspections struct {
	identityv1.UnimplementedIdentityServiceServer

	inbox     *inbox.Inbox
	completer *participant.Completer

	// accepted holds one token if a command was accepted.
	accepted chan struct{}
}

// InspectPassport puts a passport on the clerk's desk.
func (s *inspections) InspectPassport(
	ctx context.Context, r *identityv1.InspectPassportRequest,
) (*identityv1.PassportInspected, error) {
	reply, err := inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*identityv1.PassportInspected, error) {
		command, _ := participant.FromContext(ctx)
		if _, err := tx.ExecContext(ctx, `INSERT INTO desk (command_id, applicant) VALUES (?, ?)`,
			command.CommandID, r.GetApplicant()); err != nil {
			return nil, fmt.Errorf("putting the passport on the desk: %w", err)
		}
		return nil, participant.Pending(time.Hour)
	})
	if _, ok := participant.IsPending(err); ok {
		select {
		case s.accepted <- struct{}{}:
		default:
		}
	}
	return reply, err
}

// DiscardInspection undoes InspectPassport. If the passport is still on the desk, the action has no reply.
func (s *inspections) DiscardInspection(
	ctx context.Context, _ *identityv1.DiscardInspectionRequest,
) (*identityv1.InspectionDiscarded, error) {
	return inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*identityv1.InspectionDiscarded, error) {
		command, _ := participant.FromContext(ctx)
		_, err := tx.ExecContext(ctx, `DELETE FROM desk WHERE command_id = ?`, command.CommandID)
		return &identityv1.InspectionDiscarded{}, err
	})
}

// work is the clerk. It completes the commands that this process or an earlier one has accepted, until ctx ends.
func (s *inspections) work(ctx context.Context) {
	for ctx.Err() == nil {
		pending, err := inbox.Pending(ctx, s.inbox)
		if err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "looking for inspections", "error", err)
		}
		for _, p := range pending {
			if err := s.inspect(ctx, p.Command); err != nil && ctx.Err() == nil {
				slog.WarnContext(ctx, "completing an inspection", "command_id", p.Command.CommandID, "error", err)
			}
		}
		select {
		case <-s.accepted:
		case <-time.After(time.Minute): // Retry what failed.
		case <-ctx.Done():
		}
	}
}

// inspect completes one command, first in the inbox and then at the orchestrator.
func (s *inspections) inspect(ctx context.Context, command participant.Command) error {
	inspected, err := inbox.Complete(ctx, s.inbox, command, func(tx *inbox.Tx) (*identityv1.PassportInspected, error) {
		var applicant string
		err := tx.QueryRowContext(ctx, `UPDATE desk SET inspected = 1 WHERE command_id = ? RETURNING applicant`,
			command.CommandID).Scan(&applicant)
		return &identityv1.PassportInspected{Applicant: applicant}, err
	})
	if errors.Is(err, inbox.ErrCompensated) {
		return nil // The passport is no longer on the desk.
	}
	if err != nil {
		return err
	}
	// If this fails, the orchestrator sends the command again after an hour and receives the stored reply.
	if err := s.completer.Complete(ctx, command, inspected); !errors.Is(err, participant.ErrStepEnded) {
		return err
	}
	return nil // The compensation will arrive.
}

// orchestrator is a fake that receives completions.
type orchestrator struct {
	treatyv1.UnimplementedSagaServiceServer

	completions chan *treatyv1.CompleteStepRequest
}

func (o *orchestrator) CompleteStep(
	_ context.Context, r *treatyv1.CompleteStepRequest,
) (*treatyv1.CompleteStepResponse, error) {
	o.completions <- r
	return &treatyv1.CompleteStepResponse{}, nil
}

// A command is accepted at once and completed later.
func ExamplePending() {
	directory, err := os.MkdirTemp("", "participant")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(directory) }()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(filepath.Join(directory, "identity.db")))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(ctx, `CREATE TABLE desk (
		command_id TEXT PRIMARY KEY, applicant TEXT NOT NULL, inspected INTEGER NOT NULL DEFAULT 0)`); err != nil {
		fmt.Println(err)
		return
	}
	in, err := inbox.OpenSQLite(ctx, db, inbox.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	sagas := &orchestrator{completions: make(chan *treatyv1.CompleteStepRequest, 1)}
	server := grpc.NewServer()
	treatyv1.RegisterSagaServiceServer(server, sagas)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	connection, err := grpc.NewClient(listener.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = connection.Close() }()
	s := &inspections{inbox: in, completer: participant.NewCompleter(connection), accepted: make(chan struct{}, 1)}

	// The interceptor puts the command into the context, and turns the error into OK with a trailer.
	command := participant.Command{
		Saga: "sagas/s", CommandID: "sagas/s/steps/1", Direction: participant.Action, Attempt: 1,
	}
	request := &identityv1.InspectPassportRequest{Applicant: "applicants/1"}
	for range 2 {
		_, err = s.InspectPassport(participant.NewContext(ctx, command), request)
		fmt.Println(err)
	}

	worked := make(chan struct{})
	go func() { defer close(worked); s.work(ctx) }()
	fmt.Println("completed:", (<-sagas.completions).GetName())
	stop()
	<-worked

	reply, err := s.InspectPassport(participant.NewContext(context.Background(), command), request)
	fmt.Println("a late duplicate:", reply.GetApplicant(), err)

	// Output:
	// command accepted, to be completed later; send it again after 1h0m0s without a completion or heartbeat
	// command accepted, to be completed later; send it again after 1h0m0s without a completion or heartbeat
	// completed: sagas/s/steps/1
	// a late duplicate: applicants/1 <nil>
}
