// Package participanttest is for the tests of participants: a service behind a real gRPC connection, commands as an
// orchestrator sends them, and the service's ledger.
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
	"syscall"
	"testing"
	"time"

	_ "github.com/ncruces/go-sqlite3/driver" // registers the "sqlite3" driver
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/treatyhq/treaty/participant"
)

// Serve starts a server made by participant.NewServer on a free port for the time of the test and returns a connection
// to it.
func Serve(t testing.TB, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	t.Helper()
	server, err := participant.NewServer(participant.Options{
		Name:        t.Name(),
		StopTimeout: time.Second,
		Logger:      slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	register(server)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	connection := Dial(t, server.Addr().String())
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return connection
}

// Dial returns a plaintext connection that is closed when the test ends.
func Dial(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// Action returns a context for calls that are the action of one step, e.g. Action(ctx, "s1", 3) of sagas/s1/steps/3.
func Action(ctx context.Context, saga string, step int) context.Context {
	return command(saga, step, participant.Action).Outgoing(ctx)
}

// Compensation returns a context for calls that undo one step.
func Compensation(ctx context.Context, saga string, step int) context.Context {
	return command(saga, step, participant.Compensation).Outgoing(ctx)
}

func command(saga string, step int, direction participant.Direction) participant.Command {
	return participant.Command{
		Saga:      "sagas/" + saga,
		CommandID: fmt.Sprintf("sagas/%s/steps/%d", saga, step),
		Direction: direction,
		Attempt:   1,
		Epoch:     1,
	}
}

// Row is one row of a service's ledger: what became of one command in one direction.
type Row struct {
	// Sequence is the place of the row's transaction among the service's.
	Sequence int64

	// CommandID is "sagas/{saga}/steps/{step}".
	CommandID string

	// Direction is whether the command did or undid.
	Direction participant.Direction

	// Method is the method that was called, "/package.Service/Method".
	Method string

	// Verdict is "executed", "accepted", "refused", "null-compensated" or "refused-late".
	Verdict string

	// Reply is the stored answer: a serialized reply, or, of a refusal, a serialized google.rpc.Status.
	Reply []byte

	// Epoch is the highest epoch under which the command came.
	Epoch int64

	// ExecutedAt is when the row was made, to the microsecond.
	ExecutedAt time.Time

	// Duplicates is how many calls got the stored answer.
	Duplicates int64
}

// ErrInUse is the error of ReadLedger for the database of a running process that nobody else may open.
var ErrInUse = errors.New("a running process has the database for itself: stop it first")

// ReadLedger reads the ledger in a service's SQLite database, oldest first. The service may be running when its
// database is in WAL mode, as those of the services in Go are; otherwise it returns ErrInUse, because the other
// SQLite's lock isn't understood by this one. The ledger's table holds at most one row for each command and direction
// by its own rule, so compare it with the service's own tables to find an effect that happened twice.
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
		SELECT sequence, command_id, direction, method, verdict, reply, epoch, executed_at, duplicates FROM treaty_inbox ORDER BY sequence`)
	if err != nil {
		return nil, fmt.Errorf("reading the ledger in %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r Row
		var micros int64
		if err := rows.Scan(&r.Sequence, &r.CommandID, &r.Direction, &r.Method, &r.Verdict, &r.Reply, &r.Epoch, &micros, &r.Duplicates); err != nil {
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

// inUse reports whether a participant whose SQLite locks by a directory, as that in TypeScript does, has the file open.
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
