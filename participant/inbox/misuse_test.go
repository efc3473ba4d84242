package inbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// dbtx is what sqlc generates code for.
type dbtx interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

var _ dbtx = (*inbox.Tx)(nil)

// endless never ends, unless it is interrupted.
const endless = `
	INSERT INTO effects (command_id, direction)
	WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT 'sagas/s/steps/1', 'endless' FROM c`

// inCommand returns the context of the first attempt of sagas/s/steps/1. The call ends late, so a test that waits for
// that takes too long.
func inCommand(t *testing.T, direction participant.Direction) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return participant.NewContext(ctx, participant.Command{Saga: "sagas/s", CommandID: "sagas/s/steps/1",
		Direction: direction, Attempt: 1})
}

// effect is what the handlers of this test do, right or wrong.
type effect func(ctx context.Context, s *service, tx *inbox.Tx) error

func (s *service) do(ctx context.Context, do effect) error {
	_, err := inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
		return &customerv1.AddressChanged{}, do(ctx, s, tx)
	})
	return err
}

func write(ctx context.Context, _ *service, tx *inbox.Tx) error {
	_, err := tx.ExecContext(ctx, insertEffect)
	return err
}

func execute(statement string) effect {
	return func(ctx context.Context, _ *service, tx *inbox.Tx) error {
		_, err := tx.ExecContext(ctx, statement)
		return err
	}
}

func prepared(statement string) effect {
	return func(ctx context.Context, _ *service, tx *inbox.Tx) error {
		stmt, err := tx.PrepareContext(ctx, statement) //nolint:sqlclosecheck // It ends with its transaction.
		if err != nil {
			return err
		}
		_, err = stmt.ExecContext(ctx)
		return err
	}
}

func around(ctx context.Context, s *service, _ *inbox.Tx) error {
	_, err := s.db.ExecContext(ctx, insertEffect)
	return err
}

// inOwnTransaction writes in another transaction, after it has read in it.
func inOwnTransaction(ctx context.Context, s *service, _ *inbox.Tx) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	var n int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&n); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, insertEffect); err != nil {
		return err
	}
	return tx.Commit()
}

// interrupted ignores that one of its statements took too long, and goes on.
func interrupted(ctx context.Context, _ *service, tx *inbox.Tx) error {
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := tx.ExecContext(short, endless); err == nil {
		return errors.New("an endless statement has ended")
	}
	return nil
}

func ignoring(do effect) effect {
	return func(ctx context.Context, s *service, tx *inbox.Tx) error {
		_ = do(ctx, s, tx)
		return nil
	}
}

func both(first, second effect) effect {
	return func(ctx context.Context, s *service, tx *inbox.Tx) error {
		return errors.Join(first(ctx, s, tx), second(ctx, s, tx))
	}
}

// TestMistakesOfHandlers checks that a handler that goes around its transaction fails at once, that the error says what
// to write instead, and that it leaves nothing behind.
func TestMistakesOfHandlers(t *testing.T) {
	const (
		writesAround = "write through the tx that it is called with"
		commits      = "leave COMMIT to the inbox"
		rollsBack    = "return the error of such a statement"
		nests        = "do all in one handler"
	)
	for _, test := range []struct {
		name string
		do   effect
		want string
	}{
		{"writes through the database", around, writesAround},
		{"writes through the database without the call's context",
			func(ctx context.Context, s *service, _ *inbox.Tx) error {
				return around(context.WithoutCancel(ctx), s, nil)
			}, writesAround},
		{"writes through both", both(write, around), writesAround},
		{"writes through the database and ignores the error", both(write, ignoring(around)), writesAround},
		{"writes through the database and refuses", both(ignoring(around),
			func(context.Context, *service, *inbox.Tx) error { return errRefused }), writesAround},
		{"begins another transaction", inOwnTransaction, writesAround},
		{"begins another transaction that writes at once",
			func(ctx context.Context, s *service, _ *inbox.Tx) error {
				tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
				if err != nil {
					return err
				}
				return tx.Rollback()
			}, writesAround},
		{"commits", both(write, execute(`COMMIT`)), commits},
		{"commits and ignores the error", both(write, ignoring(execute(`COMMIT`))), commits},
		{"commits with another statement", execute(insertEffect + `; COMMIT`), commits},
		{"commits with a prepared statement", both(write, prepared(`COMMIT`)), commits},
		{"commits, and begins again", both(write, ignoring(execute(`COMMIT; BEGIN`))), commits},
		{"rolls back", both(write, execute(`ROLLBACK`)), rollsBack},
		{"rolls back and writes", both(execute(`ROLLBACK`), ignoring(write)), rollsBack},
		{"rolls back with a prepared statement", both(write, prepared(`ROLLBACK`)), rollsBack},
		{"goes on after an interrupted statement", both(write, interrupted), rollsBack},
		{"goes on with a write after an interrupted statement", both(interrupted, ignoring(write)), rollsBack},
		{"handles another command", func(ctx context.Context, s *service, _ *inbox.Tx) error {
			return s.do(participant.NewContext(ctx, participant.Command{Saga: "sagas/s", CommandID: "sagas/s/steps/2",
				Direction: participant.Action, Attempt: 1}), write)
		}, nests},
		{"completes a command", func(ctx context.Context, s *service, _ *inbox.Tx) error {
			_, err := inbox.Complete(ctx, s.inbox, participant.Command{CommandID: "sagas/s/steps/2",
				Direction: participant.Action}, func(*inbox.Tx) (*customerv1.AddressChanged, error) {
				return &customerv1.AddressChanged{}, nil
			})
			return err
		}, nests},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, filepath.Join(t.TempDir(), "service.db"))
			for what, ctx := range map[string]context.Context{
				"a command":          inCommand(t, participant.Action),
				"a call of a person": context.WithoutCancel(t.Context()),
			} {
				err := s.do(ctx, test.do)
				if status.Code(err) != codes.Internal || !strings.Contains(status.Convert(err).Message(), test.want) {
					t.Errorf("%s: %v, want INTERNAL with %q", what, err, test.want)
				}
				if participant.IsSettled(err) {
					t.Errorf("%s: the error counts for all attempts", what)
				}
			}
			s.wantNothing(t)
			// Neither the connections nor the next attempt suffer.
			if err := s.do(inCommand(t, participant.Action), write); err != nil {
				t.Errorf("the next attempt: %v", err)
			}
			if got := s.effects(t, "sagas/s/steps/1"); len(got) != 1 {
				t.Errorf("effects %q after the next attempt, want one", got)
			}
			if err := around(t.Context(), s, nil); err != nil {
				t.Errorf("a write that isn't a handler's: %v", err)
			}
		})
	}
}

// wantNothing checks that neither an effect nor a row was committed.
func (s *service) wantNothing(t *testing.T) {
	t.Helper()
	var effects, rows int
	if err := s.db.QueryRow(`SELECT (SELECT count(*) FROM effects), (SELECT count(*) FROM treaty_inbox)`).Scan(&effects,
		&rows); err != nil || effects != 0 || rows != 0 {
		t.Errorf("%d effects and %d rows of the inbox, %v; want none", effects, rows, err)
	}
}

// TestRightHandlers checks that nothing is taken for a mistake that is none.
func TestRightHandlers(t *testing.T) {
	for name, do := range map[string]effect{
		"reads through the database": func(ctx context.Context, s *service, tx *inbox.Tx) error {
			var n int
			err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&n)
			return errors.Join(err, write(ctx, s, tx))
		},
		"reads in another transaction": func(ctx context.Context, s *service, tx *inbox.Tx) error {
			other, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
			if err != nil {
				return err
			}
			defer func() { _ = other.Rollback() }()
			var n int
			err = other.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&n)
			return errors.Join(err, write(ctx, s, tx))
		},
		"rolls back to a savepoint of its own": both(write,
			execute(`SAVEPOINT mine; DELETE FROM effects; ROLLBACK TO mine; RELEASE mine`)),
		"goes on after a statement that failed": both(write, ignoring(execute(`INSERT INTO effects (n) VALUES (1)`))),
		"prepares a statement":                  prepared(insertEffect),
		"writes in goroutines that it waits for": func(ctx context.Context, s *service, tx *inbox.Tx) error {
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					var n int
					_ = tx.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&n)
				})
			}
			wg.Go(func() { _ = write(ctx, s, tx) })
			wg.Wait()
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, filepath.Join(t.TempDir(), "service.db"))
			if err := s.do(inCommand(t, participant.Action), do); err != nil {
				t.Error(err)
			}
			if got := s.effects(t, "sagas/s/steps/1"); len(got) != 1 {
				t.Errorf("effects %q, want one", got)
			}
		})
	}
}

// TestOtherWritersWait checks that a write that isn't a handler's still waits for the lock that a handler's transaction
// has.
func TestOtherWritersWait(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
	written := make(chan error, 1)
	err := s.do(inCommand(t, participant.Action), func(ctx context.Context, _ *service, tx *inbox.Tx) error {
		go func() {
			_, err := s.db.ExecContext(t.Context(), `INSERT INTO effects (command_id) VALUES ('other')`)
			written <- err
		}()
		select {
		case err := <-written:
			return fmt.Errorf("another writer didn't wait: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
		return write(ctx, s, tx)
	})
	if err != nil {
		t.Error(err)
	}
	if err := <-written; err != nil {
		t.Errorf("the other writer: %v", err)
	}
}

// TestLockOutlivesCall checks that what a handler has begun to write around its transaction isn't executed when the
// call ends.
func TestLockOutlivesCall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service.db")
	s := openWith(t, "file:"+path+"?_pragma=busy_timeout(300)&_pragma=journal_mode(wal)", inbox.Options{})
	ctx, end := context.WithCancel(inCommand(t, participant.Action))
	err := s.do(ctx, func(ctx context.Context, _ *service, _ *inbox.Tx) error {
		written := make(chan error, 1)
		go func() { written <- around(context.WithoutCancel(ctx), s, nil) }()
		end()
		return <-written
	})
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "given up waiting for its transaction") {
		t.Errorf("got %v, want INTERNAL with the reason", err)
	}
	s.wantNothing(t)
}

// TestPoolOfOneConnection checks that a handler that waits for the connection that its own transaction has commits
// nothing, and is reported.
func TestPoolOfOneConnection(t *testing.T) {
	log := logged(t)
	for name, do := range map[string]effect{
		"with the call's context": around,
		"without the call's context": func(ctx context.Context, s *service, _ *inbox.Tx) error {
			return around(context.WithoutCancel(ctx), s, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "service.db"))
			s.db.SetMaxOpenConns(1)
			ctx, cancel := context.WithTimeout(inCommand(t, participant.Action), 600*time.Millisecond)
			defer cancel()
			if err := s.do(ctx, do); status.Code(err) != codes.DeadlineExceeded && status.Code(err) != codes.Internal {
				t.Errorf("got %v, want DEADLINE_EXCEEDED or INTERNAL", err)
			}
			s.wantNothing(t)
			if !strings.Contains(log(), "level=ERROR") ||
				!strings.Contains(log(), "waits neither for the *sql.DB") {
				t.Errorf("the log doesn't say what to look for:\n%s", log())
			}
			if err := s.do(inCommand(t, participant.Action), write); err != nil {
				t.Errorf("the next attempt: %v", err)
			}
		})
	}
}

// logged returns what is logged since, until the test ends.
func logged(t *testing.T) func() string {
	t.Helper()
	var mu sync.Mutex
	var text bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return text.String()
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestTxAfterHandler checks that a transaction can't be used when its handler has returned.
func TestTxAfterHandler(t *testing.T) {
	log := logged(t)
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
	ctx := inCommand(t, participant.Action)
	var kept *inbox.Tx
	var statement *sql.Stmt
	if err := s.do(ctx, func(ctx context.Context, _ *service, tx *inbox.Tx) (err error) {
		kept = tx
		statement, err = tx.PrepareContext(ctx, insertEffect) //nolint:sqlclosecheck // The test uses it too late.
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_, execErr := kept.ExecContext(ctx, insertEffect)
	_, queryErr := kept.QueryContext(ctx, `SELECT 1`)     //nolint:sqlclosecheck,rowserrcheck // It fails.
	_, prepareErr := kept.PrepareContext(ctx, `SELECT 1`) //nolint:sqlclosecheck // It fails.
	_, actionErr := inbox.ActionReply(inCommand(t, participant.Compensation), s.inbox, kept,
		&customerv1.AddressChanged{})
	var n int
	for name, err := range map[string]error{
		"ExecContext": execErr, "QueryContext": queryErr, "PrepareContext": prepareErr, "ActionReply": actionErr,
		"QueryRowContext": kept.QueryRowContext(ctx, `SELECT 1`).Scan(&n),
	} {
		if !errors.Is(err, sql.ErrTxDone) || !strings.Contains(err.Error(), "wait for the goroutines") {
			t.Errorf("%s: %v, want ErrTxDone with what to write instead", name, err)
		}
	}
	if _, err := statement.ExecContext(ctx); err == nil {
		t.Error("a prepared statement still works")
	}
	if got := s.effects(t, "sagas/s/steps/1"); got != nil {
		t.Errorf("effects %q", got)
	}
	if !strings.Contains(log(), "level=ERROR") || !strings.Contains(log(), "sagas/s/steps/1") {
		t.Errorf("the log lacks an error with the command:\n%s", log())
	}
}

// TestOpenSQLiteNeedsGuard checks that an inbox isn't opened in a database in which it couldn't notice mistakes.
func TestOpenSQLiteNeedsGuard(t *testing.T) {
	db, err := sql.Open("sqlite3", inbox.SQLiteDSN(filepath.Join(t.TempDir(), "service.db")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := inbox.OpenSQLite(t.Context(), db, inbox.Options{}); err == nil ||
		!strings.Contains(err.Error(), "inbox.OpenSQLiteDB(") {
		t.Errorf("got %v, want an error with what to write instead", err)
	}
	if _, err := inbox.OpenSQLiteDB("file:x?_txlock=nonsense"); err == nil {
		t.Error("a data source name that makes no sense is taken")
	}
}

// TestReplyLimitIsReceivable checks that the limit of replies can't exceed what orchestrators receive.
func TestReplyLimitIsReceivable(t *testing.T) {
	db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(filepath.Join(t.TempDir(), "service.db")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for limit, want := range map[int]bool{0: true, 4 << 20: true, 4<<20 + 1: false} {
		if _, err := inbox.OpenSQLite(t.Context(), db, inbox.Options{MaxReplyBytes: limit}); (err == nil) != want {
			t.Errorf("a limit of %d: %v", limit, err)
		}
	}
}

// TestNilReply checks that a handler that returns nothing at all hasn't succeeded.
func TestNilReply(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
	ctx := inCommand(t, participant.Action)
	nothing := func(tx *inbox.Tx) (*customerv1.AddressChanged, error) { return nil, write(ctx, s, tx) }
	_, err := inbox.Handle(ctx, s.inbox, nothing)
	if status.Code(err) != codes.Internal ||
		!strings.Contains(err.Error(), "return an empty acme.customer.v1.AddressChanged") {
		t.Errorf("got %v, want INTERNAL with what to return", err)
	}
	s.wantNothing(t)

	accepted := call{direction: participant.Action, fails: participant.Pending(time.Hour)}
	if _, err := s.call(t.Context(), "sagas/s/steps/2", accepted); !isPending(err) {
		t.Fatal(err)
	}
	command := participant.Command{CommandID: "sagas/s/steps/2", Direction: participant.Action}
	if _, err := inbox.Complete(t.Context(), s.inbox, command, nothing); status.Code(err) != codes.Internal {
		t.Errorf("completing: %v, want INTERNAL", err)
	}
	if pending, err := inbox.Pending(t.Context(), s.inbox); err != nil || len(pending) != 1 {
		t.Errorf("pending are %v, %v; want the command", pending, err)
	}
}

func isPending(err error) bool {
	_, pending := participant.IsPending(err)
	return pending
}

// calledAs returns the context of a call of a method.
func calledAs(ctx context.Context, method string) context.Context {
	return grpc.NewContextWithServerTransportStream(ctx, stream(method))
}

type stream string

func (s stream) Method() string             { return string(s) }
func (stream) SetHeader(metadata.MD) error  { return nil }
func (stream) SendHeader(metadata.MD) error { return nil }
func (stream) SetTrailer(metadata.MD) error { return nil }

// TestReplyLimit checks that the effect of a handler isn't committed if its reply could never be sent.
func TestReplyLimit(t *testing.T) {
	const limit = 1000
	for _, test := range []struct {
		name      string
		method    string
		direction participant.Direction
		code      codes.Code
		settled   bool
	}{
		{"pivot", cardv1.CardService_IssueCard_FullMethodName, participant.Action, codes.OutOfRange, true},
		{"compensatable", customerv1.CustomerService_ChangeAddress_FullMethodName, participant.Action,
			codes.OutOfRange, true},
		{"retriable", cardv1.CardService_IssueExtraCard_FullMethodName, participant.Action, codes.Internal, false},
		{"compensation", customerv1.CustomerService_RestoreAddress_FullMethodName, participant.Compensation,
			codes.OutOfRange, false},
		{"unknown method", "", participant.Action, codes.OutOfRange, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := logged(t)
			s := openWith(t, inbox.SQLiteDSN(filepath.Join(t.TempDir(), "service.db")),
				inbox.Options{MaxReplyBytes: limit})
			if test.direction == participant.Compensation {
				if err := s.do(inCommand(t, participant.Action),
					func(context.Context, *service, *inbox.Tx) error { return nil }); err != nil {
					t.Fatal(err)
				}
			}
			ctx := calledAs(inCommand(t, test.direction), test.method)
			err := s.replyWith(ctx, limit+1)
			if status.Code(err) != test.code || participant.IsSettled(err) != test.settled ||
				!strings.Contains(err.Error(), "1001 bytes") {
				t.Errorf("got %v, settled %t; want %s, settled %t", err, participant.IsSettled(err), test.code,
					test.settled)
			}
			if got := s.effects(t, "sagas/s/steps/1"); got != nil {
				t.Errorf("effects %q", got)
			}
			if !strings.Contains(log(), "level=ERROR") || !strings.Contains(log(), "bytes=1001 limit=1000") {
				t.Errorf("the log lacks the error:\n%s", log())
			}
			err = s.replyWith(ctx, limit)
			if test.settled && status.Code(err) != test.code || !test.settled && err != nil {
				t.Errorf("the next attempt, with a smaller reply: %v", err)
			}
		})
	}
}

// replyWith handles a call whose handler has an effect and a reply of a size between 131 and 16386 bytes.
func (s *service) replyWith(ctx context.Context, size int) error {
	_, err := inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
		return replyOf(size), write(ctx, s, tx)
	})
	return err
}

func replyOf(size int) *customerv1.AddressChanged {
	return &customerv1.AddressChanged{Customer: strings.Repeat("x", size-3)}
}

// TestReplyLimitOfCompletion checks that a command stays accepted if its reply could never be sent.
func TestReplyLimitOfCompletion(t *testing.T) {
	s := openWith(t, inbox.SQLiteDSN(filepath.Join(t.TempDir(), "service.db")), inbox.Options{MaxReplyBytes: 1000})
	accepted := call{direction: participant.Action, fails: participant.Pending(time.Hour)}
	if _, err := s.call(t.Context(), "sagas/s/steps/1", accepted); !isPending(err) {
		t.Fatal(err)
	}
	command := participant.Command{CommandID: "sagas/s/steps/1", Direction: participant.Action}
	complete := func(size int) error {
		_, err := inbox.Complete(t.Context(), s.inbox, command, func(*inbox.Tx) (*customerv1.AddressChanged, error) {
			return replyOf(size), nil
		})
		return err
	}
	if err := complete(1001); status.Code(err) != codes.OutOfRange || !strings.Contains(err.Error(), "1001 bytes") {
		t.Errorf("got %v, want OUT_OF_RANGE", err)
	}
	if pending, err := inbox.Pending(t.Context(), s.inbox); err != nil || len(pending) != 1 {
		t.Errorf("pending are %v, %v; want the command", pending, err)
	}
	if err := complete(1000); err != nil {
		t.Error(err)
	}
}
