package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/participant/inbox/pgxinbox"
)

// eachPostgres runs a test on every backend on which transactions run at the same time.
func eachPostgres(t *testing.T, test func(t *testing.T, b backend)) {
	t.Helper()
	each(t, func(t *testing.T, b backend) {
		t.Helper()
		if b.name != "SQLite" {
			test(t, b)
		}
	})
}

// statement executes a statement in the transaction of a handler.
type statement func(query string, args ...any) error

// handle handles a command with a handler that executes statements.
func (s *service) handle(ctx context.Context, c participant.Command, do func(execute statement) error) string {
	c.Saga, _, _ = strings.Cut(c.CommandID, "/steps/")
	c.Attempt = 1
	ctx = participant.NewContext(ctx, c)
	reply := &customerv1.AddressChanged{}
	var err error
	if s.pgx {
		_, err = pgxinbox.Handle(ctx, s.inbox, func(tx *pgxinbox.Tx) (*customerv1.AddressChanged, error) {
			return reply, do(func(query string, args ...any) error {
				_, err := tx.Exec(ctx, query, args...)
				return err
			})
		})
	} else {
		_, err = inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
			return reply, do(func(query string, args ...any) error {
				_, err := tx.ExecContext(ctx, query, args...)
				return err
			})
		})
	}
	return describe("done", err)
}

func effectOf(c participant.Command) func(execute statement) error {
	return func(execute statement) error {
		return execute(`INSERT INTO effects (command_id, direction) VALUES ($1, $2)`, c.CommandID, string(c.Direction))
	}
}

// held returns a handler that has its effect, and then says so and waits until it may go on.
func held(c participant.Command) (do func(execute statement) error, open <-chan struct{}, goOn func()) {
	begun, wait := make(chan struct{}), make(chan struct{})
	return func(execute statement) error {
		if err := effectOf(c)(execute); err != nil {
			return err
		}
		close(begun)
		<-wait
		return nil
	}, begun, sync.OnceFunc(func() { close(wait) })
}

// waits returns when a transaction waits for a lock, or the test fails.
func (s *service) waits(t *testing.T) {
	t.Helper()
	for {
		var waiting int
		if err := s.db.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted`).
			Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		if waiting > 0 {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
}

func async(f func() string) <-chan string {
	answer := make(chan string, 1)
	go func() { answer <- f() }()
	return answer
}

// A duplicate, and the undo, of an action whose transaction is open wait for it, although they have other rows.
func TestActionIsOpen(t *testing.T) { eachPostgres(t, actionIsOpen) }

func actionIsOpen(t *testing.T, b backend) {
	t.Helper()
	action := participant.Command{CommandID: id, Direction: participant.Action, Scope: "/0", Epoch: 1}
	undo := action
	undo.Direction = participant.Compensation
	for _, second := range []participant.Command{action, undo} {
		t.Run(string(second.Direction), func(t *testing.T) {
			s := b.fresh(t)
			s.handle(t.Context(), participant.Command{CommandID: "sagas/x/steps/1", Direction: participant.Action,
				Scope: "/0", Epoch: 1}, func(statement) error { return nil }) // The scope is known.
			do, open, goOn := held(action)
			defer goOn()
			first := async(func() string { return s.handle(t.Context(), action, do) })
			<-open
			other := async(func() string { return s.handle(t.Context(), second, effectOf(second)) })
			s.waits(t)
			select {
			case answer := <-other:
				t.Errorf("it didn't wait, and was answered %q", answer)
				other = async(func() string { return answer })
			default:
			}
			goOn()
			if got := <-first; got != "done" {
				t.Errorf("the action was answered %q", got)
			}
			if got := <-other; got != "done" {
				t.Errorf("the other call was answered %q", got)
			}
			want := "action"
			if second.Direction == participant.Compensation {
				want = "action compensation"
			}
			if got := strings.Join(s.effects(t, id), " "); got != want {
				t.Errorf("effects %q, want %q", got, want)
			}
		})
	}
}

// A call under a higher epoch doesn't wait for another command's handler under the old one. When that ends, it is stale
// and has had no effect.
func TestStaleAndFresh(t *testing.T) { eachPostgres(t, staleAndFresh) }

func staleAndFresh(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	command := func(step string, epoch uint64) participant.Command {
		return participant.Command{CommandID: "sagas/s/steps/" + step, Direction: participant.Action, Scope: "/0",
			Epoch: epoch}
	}
	old, replaced := command("1", 1), command("2", 2)
	do, open, goOn := held(old)
	defer goOn()
	stale := async(func() string { return s.handle(t.Context(), old, do) })
	<-open
	if got := s.handle(t.Context(), replaced, effectOf(replaced)); got != "done" {
		t.Errorf("the fresh command was answered %q", got)
	}
	goOn()
	if got := <-stale; got != "Aborted treaty/STALE_EPOCH" {
		t.Errorf("the stale command was answered %q", got)
	}
	if got := s.effects(t, old.CommandID); got != nil {
		t.Errorf("the stale command has the effects %q", got)
	}
	var rows int
	if err := s.db.QueryRowContext(t.Context(), `SELECT count(*) FROM treaty_inbox`).Scan(&rows); err != nil ||
		rows != 1 {
		t.Errorf("the inbox has %d rows, %v; want that of the fresh command", rows, err)
	}
}

// What raises an epoch waits for transactions that are about to commit under the old one, which don't wait for each
// other.
func TestCommitsExcludeRaises(t *testing.T) { eachPostgres(t, commitsExcludeRaises) }

func commitsExcludeRaises(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	command := participant.Command{CommandID: id, Direction: participant.Action, Scope: "/0", Epoch: 1}
	if got := s.handle(t.Context(), command, effectOf(command)); got != "done" {
		t.Fatal(got)
	}
	committing, err := s.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = committing.Rollback() }()
	var epoch int64
	if err := committing.QueryRowContext(t.Context(),
		`SELECT epoch FROM treaty_inbox_scopes WHERE scope = '/0' FOR SHARE`).Scan(&epoch); err != nil {
		t.Fatal(err)
	}
	command.CommandID = "sagas/s/steps/2"
	if got := s.handle(t.Context(), command, effectOf(command)); got != "done" {
		t.Errorf("another commit under the same epoch was answered %q", got)
	}
	raised := async(func() string {
		_, err := s.hear(t, 2, nil)
		return describe("raised", err)
	})
	s.waits(t)
	select {
	case got := <-raised:
		t.Fatalf("the epoch was %s while a transaction was about to commit under the old one", got)
	default:
	}
	if err := committing.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := <-raised; got != "raised" {
		t.Errorf("raising the epoch was answered %q", got)
	}
}

// A horizon that is told while a handler runs counts for it: the row of an earlier attempt may have been purged.
func TestHorizonMeanwhile(t *testing.T) { eachPostgres(t, horizonMeanwhile) }

func horizonMeanwhile(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	command := participant.Command{CommandID: id, Direction: participant.Action, Scope: "/0", Epoch: 1, Start: noon}
	do, open, goOn := held(command)
	defer goOn()
	answer := async(func() string { return s.handle(t.Context(), command, do) })
	<-open
	if _, err := s.hear(t, 1, &treatyv1.DescribeRequest{Horizon: timestamppb.New(noon.Add(time.Hour))}); err != nil {
		t.Fatal(err)
	}
	goOn()
	if got := <-answer; got != "Internal treaty/PURGED" {
		t.Errorf("the command was answered %q", got)
	}
	if got := s.effects(t, id); got != nil {
		t.Errorf("effects %q", got)
	}
}

// Commands of one saga from an orchestrator that sends no scope are handled one after the other, since their epoch is
// that of the saga.
func TestOlderOrchestratorSideBySide(t *testing.T) { eachPostgres(t, olderOrchestratorSideBySide) }

func olderOrchestratorSideBySide(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	fresh := participant.Command{CommandID: "sagas/s/steps/1", Direction: participant.Action, Epoch: 2}
	old := participant.Command{CommandID: "sagas/s/steps/2", Direction: participant.Action, Epoch: 1}
	do, open, goOn := held(fresh)
	defer goOn()
	first := async(func() string { return s.handle(t.Context(), fresh, do) })
	<-open
	second := async(func() string { return s.handle(t.Context(), old, effectOf(old)) })
	s.waits(t)
	goOn()
	if got := <-first; got != "done" {
		t.Errorf("the fresh command was answered %q", got)
	}
	if got := <-second; got != "Aborted treaty/STALE_EPOCH" {
		t.Errorf("the stale command was answered %q", got)
	}
	var left int
	err := s.db.QueryRowContext(t.Context(),
		`SELECT count(*) FROM treaty_inbox_commands WHERE command_id = 'sagas/s'`).Scan(&left)
	if err != nil || left != 0 {
		t.Errorf("%d rows of the saga are left, %v", left, err)
	}
}

// Handlers that deadlock are repeated, also one that takes the deadlock for a reason to refuse.
func TestHandlersDeadlock(t *testing.T) { eachPostgres(t, handlersDeadlock) }

func handlersDeadlock(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	for _, setup := range []string{`CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL)`,
		`INSERT INTO accounts VALUES (1, 0), (2, 0)`} {
		if _, err := s.db.ExecContext(t.Context(), setup); err != nil {
			t.Fatal(err)
		}
	}
	var met sync.WaitGroup
	met.Add(2)
	var mu sync.Mutex
	runs := 0
	transfer := func(first, second int) func(execute statement) error {
		meet := sync.OnceFunc(func() {
			met.Done()
			met.Wait()
		})
		const add = `UPDATE accounts SET balance = balance + 1 WHERE id = $1`
		return func(execute statement) error {
			mu.Lock()
			runs++
			mu.Unlock()
			if err := execute(add, first); err != nil {
				return err
			}
			meet()
			if err := execute(add, second); err != nil {
				return participant.Refuse(codes.FailedPrecondition, "no such account",
					&customerv1.CustomerClosed{Customer: "customers/1"})
			}
			return nil
		}
	}
	command := func(step string) participant.Command {
		return participant.Command{CommandID: "sagas/s/steps/" + step, Direction: participant.Action, Scope: "/0",
			Epoch: 1}
	}
	one := async(func() string { return s.handle(t.Context(), command("1"), transfer(1, 2)) })
	other := async(func() string { return s.handle(t.Context(), command("2"), transfer(2, 1)) })
	if first, second := <-one, <-other; first != "done" || second != "done" {
		t.Errorf("answered %q and %q", first, second)
	}
	var sum int
	err := s.db.QueryRowContext(t.Context(), `SELECT sum(balance) FROM accounts`).Scan(&sum)
	if err != nil || sum != 4 {
		t.Errorf("the accounts have %d, %v; want 4", sum, err)
	}
	if runs < 3 {
		t.Errorf("the handlers ran %d times, so there was no deadlock", runs)
	}
}

// What handlers do to their transactions shows.
func TestPostgresHandlers(t *testing.T) { eachPostgres(t, postgresHandlers) }

func postgresHandlers(t *testing.T, b backend) {
	t.Helper()
	command := participant.Command{CommandID: id, Direction: participant.Action, Scope: "/0", Epoch: 1}
	effect := effectOf(command)
	ignore := func(execute statement, query string) { _ = execute(query) }
	for _, test := range []struct {
		name    string
		do      func(execute statement) error
		want    string
		effects int
	}{
		{"commits", func(execute statement) error { return errors.Join(effect(execute), execute(`COMMIT`)) },
			"Internal", 1}, // It can't be prevented.
		{"rolls back", func(execute statement) error { return errors.Join(effect(execute), execute(`ROLLBACK`)) },
			"Internal", 0},
		{"rolls back and refuses", func(execute statement) error {
			return errors.Join(execute(`ROLLBACK`), errRefused)
		}, "Internal", 0},
		{"goes on after a statement that failed", func(execute statement) error {
			ignore(execute, `INSERT INTO nowhere VALUES (1)`)
			return nil
		}, "Internal", 0},
		{"returns the error of a statement", func(execute statement) error {
			return errors.Join(effect(execute), execute(`INSERT INTO nowhere VALUES (1)`))
		}, "Unknown", 0},
		{"refuses because of a statement that failed", func(execute statement) error {
			err := effect(execute)
			ignore(execute, `INSERT INTO nowhere VALUES (1)`)
			return errors.Join(err, errRefused)
		}, "FailedPrecondition customers/1", 0},
		{"rolls back to a savepoint of its own", func(execute statement) error {
			err := errors.Join(effect(execute), execute(`SAVEPOINT mine`))
			ignore(execute, `INSERT INTO nowhere VALUES (1)`)
			return errors.Join(err, execute(`ROLLBACK TO mine`))
		}, "done", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := b.fresh(t)
			if got := s.handle(t.Context(), command, test.do); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if got := s.effects(t, id); len(got) != test.effects {
				t.Errorf("effects %q, want %d", got, test.effects)
			}
		})
	}
}

// Processes that start at the same time create the tables once, and one that may not create tables can use them.
func TestProcessesOpenTogether(t *testing.T) { eachPostgres(t, processesOpenTogether) }

func processesOpenTogether(t *testing.T, b backend) {
	t.Helper()
	place := b.place(t)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			db, err := sql.Open("pgx", place)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = db.Close() }()
			if _, err := inbox.OpenPostgres(t.Context(), db, inbox.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	db, err := sql.Open("pgx", place+"&default_transaction_read_only=on")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := inbox.OpenPostgres(t.Context(), db, inbox.Options{}); err != nil {
		t.Errorf("opening an inbox whose tables exist: %v", err)
	}
}

// The end of a call reaches its statement, also while it waits for another transaction.
func TestDeadlineInPostgres(t *testing.T) { eachPostgres(t, deadlineInPostgres) }

func deadlineInPostgres(t *testing.T, b backend) {
	t.Helper()
	s := b.fresh(t)
	command := participant.Command{CommandID: id, Direction: participant.Action, Scope: "/0", Epoch: 1}
	do, open, goOn := held(command)
	defer goOn()
	first := async(func() string { return s.handle(t.Context(), command, do) })
	<-open
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if got := s.handle(ctx, command, effectOf(command)); got != codes.DeadlineExceeded.String() {
		t.Errorf("a duplicate whose time was over was answered %q", got)
	}
	goOn()
	if got := <-first; got != "done" {
		t.Errorf("the first call was answered %q", got)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	command.CommandID = "sagas/s/steps/2"
	if got := s.handle(ctx, command, func(execute statement) error {
		return execute(`SELECT pg_sleep(60)`)
	}); got != codes.DeadlineExceeded.String() {
		t.Errorf("a call whose time was over was answered %q", got)
	}
	if got := s.handle(t.Context(), command, effectOf(command)); got != "done" {
		t.Errorf("the next attempt was answered %q", got)
	}
}
