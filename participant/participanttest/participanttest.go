// Package participanttest helps to test participants. It serves a service over a real gRPC connection, sends commands
// as an orchestrator does, and reads the service's ledger.
//
//	connection := participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
//		customerv1.RegisterCustomerServiceServer(r, service)
//	})
//	client := customerv1.NewCustomerServiceClient(connection)
//	reply, err := client.ChangeAddress(participanttest.Action(t.Context(), "s1", 1), request)
//	_, err = client.RestoreAddress(participanttest.Compensation(t.Context(), "s1", 1), undo)
//
// Send each command twice, send the compensation first, and send a late action: the results must be those that
// docs/participants.md describes. Compare the effects, too, with the ledger ([ReadLedger]): as many as there are
// executed commands. Neither the inbox nor the ledger can show an effect that a handler has outside of its transaction,
// for example in another database, at another service, or in a goroutine that it doesn't wait for. Such an effect
// happens with each attempt, so it only shows if you count it, after attempts that failed.
package participanttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/participant"
)

// Server is a running server of a test.
type Server struct {
	// Connection is connected to the server, in plaintext and without retries.
	Connection *grpc.ClientConn

	stop func()
}

// Stop stops the server, if it still runs, and returns when it has ended. It fails the test if the server fails. Call
// it before the end of the test to restart a participant on its database.
func (s *Server) Stop() { s.stop() }

// Start starts a server made by participant.NewServer on a free port of this machine, with the keepers that
// orchestrators may ask: the participant's inboxes. The server runs until Stop is called or the test ends, and logs to
// the test's output. If it can't start, the test fails.
func Start(t testing.TB, register func(grpc.ServiceRegistrar), keepers ...participant.Keeper) *Server {
	t.Helper()
	server, err := participant.NewServer(participant.Options{
		Name:        t.Name(),
		StopTimeout: time.Second,
		Logger:      slog.New(slog.NewTextHandler(t.Output(), nil)),
		Keepers:     keepers,
	})
	if err != nil {
		t.Fatal(err)
	}
	register(server)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	s := &Server{Connection: Dial(t, server.Addr().String()), stop: sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(s.Stop)
	return s
}

// Serve starts a server as [Start] does, and returns the connection to it.
func Serve(t testing.TB, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	t.Helper()
	return Start(t, register).Connection
}

// Dial returns a plaintext connection without retries. It is closed when the test ends.
func Dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// Action returns a context whose calls are the action of one step. For example, Action(ctx, "s1", 3) is the action of
// sagas/s1/steps/3. The attempt and the epoch are 1.
func Action(ctx context.Context, saga string, step int) context.Context {
	return command(saga, step, participant.Action).Outgoing(ctx)
}

// Compensation returns a context whose calls are the compensation of one step.
func Compensation(ctx context.Context, saga string, step int) context.Context {
	return command(saga, step, participant.Compensation).Outgoing(ctx)
}

func command(saga string, step int, direction participant.Direction) participant.Command {
	return participant.Command{
		Saga:      wire.SagaName(saga),
		CommandID: wire.StepName(saga, strconv.Itoa(step)),
		Direction: direction,
		Attempt:   1,
		Epoch:     1,
	}
}

// Row is one row of a service's ledger: the verdict on one command in one direction.
type Row struct {
	// Sequence is the order of the row's transaction among the service's transactions.
	Sequence int64

	// CommandID is "sagas/{saga}/steps/{step}".
	CommandID string

	// Direction says whether the command was an action or a compensation.
	Direction participant.Direction

	// Method is the called method, "/package.Service/Method".
	Method string

	// Verdict is "executed", "accepted", "refused", "null-compensated" or "refused-late".
	Verdict string

	// Reply is the stored answer: a serialized reply, the serialized google.rpc.Status of a refusal, or the decimal
	// seconds of an accepted command.
	Reply []byte

	// Epoch is the highest fencing epoch with which the command arrived.
	Epoch int64

	// ExecutedAt is when the row was created or, for an accepted command, completed. Its precision is a microsecond.
	ExecutedAt time.Time

	// Duplicates is how many calls were answered with the stored answer.
	Duplicates int64
}

// ErrInUse is returned by ReadLedger if a running process has locked the database.
var ErrInUse = errors.New("a running process has locked the database: stop it first")

// ReadLedger returns the rows of the ledger in a service's SQLite database, oldest first. The service may be running if
// its database is in WAL mode, as the databases of the Go services are. Otherwise ReadLedger returns ErrInUse, because
// it can't see the lock of another SQLite library.
//
// The table's own constraint allows one row for each command and direction. To find an effect that happened twice,
// compare the ledger with the service's own tables.
func ReadLedger(ctx context.Context, path string) (ledger []Row, err error) {
	if inUse(path) {
		return nil, fmt.Errorf("reading the ledger in %s: %w", path, ErrInUse)
	}
	name := "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?mode=rw&_pragma=busy_timeout(10000)"
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger in %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	rows, err := db.QueryContext(ctx, `
		SELECT sequence, command_id, direction, method, verdict, reply, epoch, executed_at, duplicates
		FROM treaty_inbox ORDER BY sequence`)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger in %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r Row
		var micros int64
		if err := rows.Scan(&r.Sequence, &r.CommandID, &r.Direction, &r.Method, &r.Verdict, &r.Reply, &r.Epoch, &micros,
			&r.Duplicates); err != nil {
			return nil, fmt.Errorf("reading the ledger in %s: %w", path, err)
		}
		r.ExecutedAt = time.UnixMicro(micros)
		ledger = append(ledger, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the ledger in %s: %w", path, err)
	}
	return ledger, nil
}

// inUse reports whether a participant whose SQLite locks with a directory, like the one in TypeScript, has the file
// open.
func inUse(path string) bool {
	text, err := os.ReadFile(path + ".owner")
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil || pid <= 0 {
		return false
	}
	process, err := os.FindProcess(pid)
	return err == nil && process.Signal(syscall.Signal(0)) == nil
}
