package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// outcome is what became of one of several calls.
type outcome struct {
	err     error
	verdict string
	panics  any
	runs    int // How often its handler ran.
}

// waiter is one of several calls that are made while another one has the turn.
type waiter struct {
	name   string
	ctx    context.Context
	do     effect
	direct func() // In place of a call of Handle with do.
}

// command returns the context of a call for the first step of a saga.
func command(ctx context.Context, saga string, direction participant.Direction) context.Context {
	return participant.NewContext(ctx, participant.Command{Saga: "sagas/" + saga,
		CommandID: "sagas/" + saga + "/steps/1", Direction: direction, Attempt: 1, Scope: "/0", Epoch: 1})
}

// insert is the effect of a neighbour: a row with the command of its call.
func insert(ctx context.Context, _ *service, tx *inbox.Tx) error {
	c, _ := participant.FromContext(ctx)
	_, err := tx.ExecContext(ctx, `INSERT INTO effects (command_id, direction) VALUES (?, ?)`, c.CommandID, c.Direction)
	return err
}

// together makes calls at the same moment. They wait, in their order, while the handler of the first one runs. So they
// are in its batch, or after it.
func (s *service) together(t *testing.T, first waiter, others ...waiter) map[string]*outcome {
	t.Helper()
	outcomes := make(map[string]*outcome)
	var all sync.WaitGroup
	call := func(w waiter) {
		o := &outcome{}
		outcomes[w.name] = o
		all.Go(func() {
			returned := false
			defer func() {
				if !returned {
					o.panics = recover()
				}
			}()
			if w.direct != nil {
				w.direct()
				returned = true
				return
			}
			ctx, verdict := traced(w.ctx)
			_, o.err = inbox.Handle(ctx, s.inbox, func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
				o.runs++
				return &customerv1.AddressChanged{}, w.do(ctx, s, tx)
			})
			o.verdict = verdict()
			returned = true
		})
	}
	running, queued, waiting := make(chan struct{}), make(chan struct{}), make(chan int, 1000)
	inbox.OnWait(s.inbox, func(n int) { waiting <- n })
	do, once := first.do, sync.Once{}
	first.do = func(ctx context.Context, s *service, tx *inbox.Tx) error {
		once.Do(func() { close(running) })
		<-queued
		return do(ctx, s, tx)
	}
	call(first)
	<-running
	for i, w := range others {
		call(w)
		for n := <-waiting; n != i+1; n = <-waiting { //nolint:revive // It waits for the queue to grow.
		}
	}
	close(queued)
	all.Wait()
	inbox.OnWait(s.inbox, nil)
	return outcomes
}

// committed returns how many effects are committed.
func (s *service) committed(t *testing.T) (n int) {
	t.Helper()
	if err := s.db.QueryRow(`SELECT count(*) FROM effects`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCallsShareCommit checks that calls that wait are committed together: each sees the effects of those before it,
// and nobody else does.
func TestCallsShareCommit(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
	raise(t, s)
	type sight struct{ inside, outside int }
	var seen []sight
	look := func(ctx context.Context, s *service, tx *inbox.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&n); err != nil {
			return err
		}
		seen = append(seen, sight{n, s.committed(t)})
		return insert(ctx, s, tx)
	}
	var others []waiter
	for i := range 4 {
		others = append(others, waiter{name: fmt.Sprint(i), do: look,
			ctx: command(t.Context(), fmt.Sprintf("s%d", i), participant.Action)})
	}
	outcomes := s.together(t, waiter{name: "first", ctx: command(t.Context(), "first", participant.Action), do: look},
		others...)
	for name, o := range outcomes {
		if o.err != nil || o.verdict != "executed" || o.runs != 1 {
			t.Errorf("%s: %+v, want to be executed once", name, o)
		}
	}
	if want := []sight{{0, 0}, {1, 0}, {2, 0}, {3, 0}, {4, 0}}; !slices.Equal(seen, want) {
		t.Errorf("effects seen inside and outside: %v, want %v", seen, want)
	}
	if n := audit(t, s.db); n != 5 {
		t.Errorf("%d commands were executed, want 5", n)
	}
}

// raise lets the inbox know the epoch of the tests' scope, since that is stored in a transaction of its own.
func raise(t *testing.T, s *service) {
	t.Helper()
	if _, err := s.inbox.Hear(t.Context(), participant.Caller{Scope: "/0", Epoch: 1}, nil); err != nil {
		t.Fatal(err)
	}
}

// tables are what the faults need.
const tables = `
	CREATE TABLE parents (id INTEGER PRIMARY KEY);
	CREATE TABLE children (parent INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE forbidden (n INTEGER);
	CREATE TRIGGER forbid BEFORE INSERT ON forbidden BEGIN SELECT RAISE(ROLLBACK, 'forbidden'); END;
	CREATE TABLE large (data BLOB);
	CREATE TABLE many (n INTEGER);`

// TestFaultsInBatch lets one of several calls go wrong, with neighbours on both sides in the same transaction. Nobody
// else suffers: each neighbour is executed, once as far as anybody can see, although its handler may run more often.
func TestFaultsInBatch(t *testing.T) {
	const (
		once  = 1 // The batch goes on without the effect of the one that goes wrong.
		twice = 2 // The batch is rolled back, and each of its calls runs alone.
	)
	for _, test := range []struct {
		name    string
		do      effect
		code    codes.Code
		text    string
		runs    int // of the neighbours' handlers
		own     int // of the culprit's handler
		effects int // of the culprit
	}{
		{name: "nothing", do: insert, runs: once, own: 1, effects: 1},
		{name: "an error", do: failing(status.Error(codes.Aborted, "busy")), code: codes.Aborted, runs: once, own: 1},
		{name: "a refusal", do: failing(errRefused), code: codes.FailedPrecondition, runs: once, own: 1},
		{name: "a statement that fails", do: both(insert, execute(`INSERT INTO nowhere VALUES (1)`)),
			code: codes.Unknown, runs: once, own: 1},
		{
			name: "an INSERT that is cancelled in the middle",
			do: both(insert, func(ctx context.Context, _ *service, tx *inbox.Tx) error {
				short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
				defer cancel()
				if _, err := tx.ExecContext(short, manyRows); err != nil {
					return fmt.Errorf("it was interrupted: %w", err)
				}
				if _, err := tx.ExecContext(short, insertEffect); !errors.Is(err, context.DeadlineExceeded) {
					return fmt.Errorf("got %w afterwards, want DeadlineExceeded", err)
				}
				return short.Err()
			}),
			code: codes.Unknown, text: context.DeadlineExceeded.Error(), runs: once, own: 1,
		},
		{
			name: "a prepared INSERT that is cancelled in the middle",
			do: both(insert, func(ctx context.Context, _ *service, tx *inbox.Tx) error {
				short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
				defer cancel()
				statement, err := tx.PrepareContext(ctx, manyRows)
				if err != nil {
					return err
				}
				defer func() { _ = statement.Close() }()
				if _, err = statement.ExecContext(short); err != nil {
					return fmt.Errorf("it was interrupted: %w", err)
				}
				return short.Err()
			}),
			code: codes.Unknown, text: context.DeadlineExceeded.Error(), runs: once, own: 1,
		},
		{name: "a deferred foreign key", do: both(insert, execute(`INSERT INTO children VALUES (7)`)),
			code: codes.Unavailable, text: "FOREIGN KEY", runs: twice, own: 2},
		{name: "RAISE(ROLLBACK)", do: both(insert, execute(`INSERT INTO forbidden VALUES (1)`)),
			code: codes.Internal, text: "has lost its transaction", runs: twice, own: 2},
		{name: "RAISE(ROLLBACK), and going on", do: both(ignoring(execute(`INSERT INTO forbidden VALUES (1)`)), insert),
			code: codes.Internal, text: "has lost its transaction", runs: twice, own: 2},
		{name: "RAISE(ROLLBACK), and beginning again",
			do:   both(ignoring(execute(`INSERT INTO forbidden VALUES (1)`)), both(execute(`BEGIN`), insert)),
			code: codes.Internal, text: "has lost its transaction", runs: twice, own: 2},
		{name: "a full disk", do: both(insert, execute(`INSERT INTO large VALUES (zeroblob(4000000))`)),
			code: codes.Internal, text: "has lost its transaction", runs: twice, own: 2},
		{name: "COMMIT", do: both(insert, execute(`COMMIT`)), code: codes.Internal, text: "leave COMMIT to the inbox",
			runs: once, own: 1},
		{name: "END, and ignoring the error", do: both(insert, ignoring(execute(" -- end it\n/* now */ ;end"))),
			code: codes.Internal, text: "leave COMMIT to the inbox", runs: once, own: 1},
		{name: "a prepared COMMIT", do: both(insert, prepared(`COMMIT`)), code: codes.Internal,
			text: "leave COMMIT to the inbox", runs: once, own: 1},
		{name: "COMMIT after another statement", do: execute(insertEffect + `; COMMIT`), code: codes.Internal,
			text: "leave COMMIT to the inbox", runs: twice, own: 2},
		{name: "ROLLBACK", do: both(insert, execute(`ROLLBACK`)), code: codes.Internal,
			text: "has lost its transaction", runs: once, own: 1},
		{name: "ROLLBACK TRANSACTION", do: both(insert, ignoring(execute(`rollback transaction`))),
			code: codes.Internal, text: "has lost its transaction", runs: once, own: 1},
		{name: "ROLLBACK after another statement", do: execute(insertEffect + `; ROLLBACK`), code: codes.Internal,
			text: "has lost its transaction", runs: twice, own: 2},
		{name: "a savepoint of its own", do: both(insert,
			execute(`SAVEPOINT mine; DELETE FROM effects; ROLLBACK TO mine; RELEASE mine`)), runs: once, own: 1,
			effects: 1},
		{name: "savepoints in statements of their own", do: both(both(insert, execute(`SAVEPOINT mine`)),
			both(both(execute(`DELETE FROM effects`), execute(`ROLLBACK TRANSACTION TO SAVEPOINT mine`)),
				both(execute(`rollback /* again */ to mine`), execute(`RELEASE mine`)))), runs: once, own: 1,
			effects: 1},
		{name: "a savepoint left open", do: both(insert, execute(`SAVEPOINT mine`)), runs: once, own: 1, effects: 1},
		{name: "a write around it", do: both(insert, around), code: codes.Internal,
			text: "write through the tx that it is called with", runs: once, own: 1},
		{name: "another command", do: func(ctx context.Context, s *service, _ *inbox.Tx) error {
			return s.do(command(ctx, "nested", participant.Action), insert)
		}, code: codes.Internal, text: "do all in one handler", runs: once, own: 1},
		{name: "rows left open", do: both(insert, func(ctx context.Context, _ *service, tx *inbox.Tx) error {
			rows, err := tx.QueryContext(ctx, endlessRows) //nolint:sqlclosecheck // It forgets to.
			if err != nil {
				return err
			}
			if !rows.Next() {
				return errors.Join(errors.New("there is no row"), rows.Err())
			}
			return nil
		}), runs: once, own: 1, effects: 1},
		{name: "rows of an INSERT left open", do: func(ctx context.Context, _ *service, tx *inbox.Tx) error {
			c, _ := participant.FromContext(ctx)
			//nolint:sqlclosecheck // It forgets to.
			rows, err := tx.QueryContext(ctx, `INSERT INTO effects (command_id, direction) VALUES (?, ?) RETURNING n`,
				c.CommandID, c.Direction)
			if err != nil {
				return err
			}
			if !rows.Next() {
				return errors.Join(errors.New("there is no row"), rows.Err())
			}
			return nil
		}, runs: once, own: 1, effects: 1},
		{name: "a statement left open", do: both(insert, prepared(`INSERT INTO many VALUES (1)`)), runs: once, own: 1,
			effects: 1},
		{name: "a panic", do: both(insert, func(context.Context, *service, *inbox.Tx) error { panic("no") }),
			runs: once, own: 1},
		{name: "a panic in a transaction that is lost", do: both(ignoring(execute(`INSERT INTO forbidden VALUES (1)`)),
			func(context.Context, *service, *inbox.Tx) error { panic("no") }), runs: twice, own: 1},
		{name: "the end of its goroutine", do: both(insert, func(context.Context, *service, *inbox.Tx) error {
			runtime.Goexit()
			return nil
		}), runs: once, own: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := openWith(t, inbox.SQLiteDSN(filepath.Join(t.TempDir(), "service.db"))+
				"&_pragma=max_page_count(200)", inbox.Options{HandlerBudget: time.Minute})
			if _, err := s.db.ExecContext(t.Context(), tables); err != nil {
				t.Fatal(err)
			}
			raise(t, s)
			neighbour := func(name string) waiter {
				return waiter{name: name, ctx: command(t.Context(), name, participant.Action), do: insert}
			}
			outcomes := s.together(t, neighbour("first"), neighbour("before"),
				waiter{name: "culprit", ctx: command(t.Context(), "culprit", participant.Action), do: test.do},
				neighbour("after"), neighbour("last"))
			culprit := outcomes["culprit"]
			delete(outcomes, "culprit")
			for name, o := range outcomes {
				runs := test.runs
				if (name == "after" || name == "last") && runs == twice && test.text != "FOREIGN KEY" {
					runs = once // The batch ends before them.
				}
				if o.err != nil || o.verdict != "executed" || o.runs != runs {
					t.Errorf("the neighbour %s: %+v; want to be executed in %d runs", name, o, runs)
				}
			}
			if status.Code(culprit.err) != test.code || test.text != "" && !strings.Contains(culprit.err.Error(),
				test.text) || culprit.runs != test.own {
				t.Errorf("the culprit: %+v; want %s with %q in %d runs", culprit, test.code, test.text, test.own)
			}
			if ends := strings.HasPrefix(test.name, "a panic"); (culprit.panics != nil) != ends {
				t.Errorf("the culprit panics with %v", culprit.panics)
			}
			if got := s.effects(t, "sagas/culprit/steps/1"); len(got) != test.effects {
				t.Errorf("the culprit has the effects %q, want %d", got, test.effects)
			}
			if got := s.committed(t); got != 4+test.effects {
				t.Errorf("%d effects are committed, want %d", got, 4+test.effects)
			}
			audit(t, s.db)
			// The next call isn't affected either.
			if err := s.do(command(t.Context(), "next", participant.Action), insert); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

func failing(err error) effect {
	return both(insert, func(context.Context, *service, *inbox.Tx) error { return err })
}

const (
	endlessRows = `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT x FROM c`

	// manyRows takes longer than a few milliseconds.
	manyRows = `WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x < 100000)
		INSERT INTO many SELECT max(x) FROM c`
)

// TestLeaksInBatch checks that what a handler leaves behind can't be used while its neighbours run in the same
// transaction.
func TestLeaksInBatch(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
	raise(t, s)
	var kept *inbox.Tx
	var statement *sql.Stmt
	var rows *sql.Rows
	culprit := func(ctx context.Context, s *service, tx *inbox.Tx) (err error) {
		kept = tx
		//nolint:sqlclosecheck // The test uses it too late.
		if statement, err = tx.PrepareContext(ctx, insertEffect); err != nil {
			return err
		}
		//nolint:sqlclosecheck,rowserrcheck // The test uses it too late.
		if rows, err = tx.QueryContext(ctx, endlessRows); err != nil {
			return err
		}
		return insert(ctx, s, tx)
	}
	var execErr, statementErr, rowsErr error
	after := func(ctx context.Context, s *service, tx *inbox.Tx) error {
		// As a goroutine that the culprit has started would do now.
		_, execErr = kept.ExecContext(ctx, insertEffect)
		_, statementErr = statement.ExecContext(ctx)
		if rows.Next() {
			t.Error("there are more rows")
		}
		rowsErr = rows.Err()
		return insert(ctx, s, tx)
	}
	outcomes := s.together(t,
		waiter{name: "first", ctx: command(t.Context(), "first", participant.Action), do: insert},
		waiter{name: "culprit", ctx: command(t.Context(), "culprit", participant.Action), do: culprit},
		waiter{name: "after", ctx: command(t.Context(), "after", participant.Action), do: after})
	for name, o := range outcomes {
		if o.err != nil || o.runs != 1 {
			t.Errorf("%s: %+v", name, o)
		}
	}
	if !errors.Is(execErr, sql.ErrTxDone) || statementErr == nil || rowsErr == nil {
		t.Errorf("the tx: %v, the statement: %v, the rows: %v; want errors", execErr, statementErr, rowsErr)
	}
	if got := s.effects(t, "sagas/s/steps/1"); got != nil {
		t.Errorf("effects %q of what was left behind", got)
	}
	audit(t, s.db)
}

// TestHandlerBudget lets a handler take too long while others wait for the commit. They are answered before it returns,
// and its method runs alone from then on.
func TestHandlerBudget(t *testing.T) {
	const method = "/acme.customer.v1.CustomerService/ChangeAddress"
	for name, stuck := range map[string]func(ctx context.Context, tx *inbox.Tx, answered <-chan struct{}) error{
		"in its own code": func(ctx context.Context, tx *inbox.Tx, answered <-chan struct{}) error {
			<-answered
			if _, err := tx.ExecContext(ctx, insertEffect); !errors.Is(err, sql.ErrTxDone) {
				return fmt.Errorf("got %w, want ErrTxDone", err)
			}
			return nil
		},
		"in a statement": func(ctx context.Context, tx *inbox.Tx, answered <-chan struct{}) error {
			if _, err := tx.ExecContext(ctx, endless); err == nil {
				return errors.New("an endless statement has ended")
			}
			<-answered
			return nil
		},
		"in a write around it": func(context.Context, *inbox.Tx, <-chan struct{}) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := openWith(t, inbox.SQLiteDSN(filepath.Join(t.TempDir(), "service.db")),
				inbox.Options{HandlerBudget: 100 * time.Millisecond})
			raise(t, s)
			answered, runs := make(chan struct{}), 0
			var aroundErr error
			neighbour := func(name string) waiter {
				w := waiter{name: name, do: insert}
				w.ctx = command(t.Context(), name, participant.Action)
				return w
			}
			slow := waiter{name: "slow", ctx: calledAs(command(t.Context(), "slow", participant.Action), method),
				do: func(ctx context.Context, s *service, tx *inbox.Tx) error {
					if runs++; runs > 1 {
						return insert(ctx, s, tx)
					}
					if name == "in a write around it" {
						<-answered
						aroundErr = around(ctx, s, tx)
						return nil
					}
					return stuck(ctx, tx, answered)
				}}
			done := make(chan map[string]*outcome)
			watch := waiter{name: "watch", direct: func() {
				for len(s.effects(t, "sagas/after/steps/1")) == 0 || len(s.effects(t, "sagas/before/steps/1")) == 0 {
					runtime.Gosched()
				}
				close(answered)
			}}
			go watch.direct()
			go func() { done <- s.together(t, neighbour("first"), neighbour("before"), slow, neighbour("after")) }()
			outcomes := <-done
			for _, name := range []string{"first", "before", "slow", "after"} {
				if o := outcomes[name]; o.err != nil || o.verdict != "executed" {
					t.Errorf("%s: %+v, want to be executed", name, o)
				}
			}
			if runs != 2 {
				t.Errorf("the slow handler ran %d times, want 2", runs)
			}
			if name == "in a write around it" && aroundErr == nil {
				t.Error("a handler without a transaction could write around it")
			}
			if got := s.effects(t, "sagas/s/steps/1"); got != nil {
				t.Errorf("effects %q of the first run", got)
			}
			// From now on, the method's handlers aren't in a batch.
			var inside, outside int
			slow.ctx = calledAs(command(t.Context(), "again", participant.Action), method)
			slow.do = func(ctx context.Context, s *service, tx *inbox.Tx) error {
				outside = s.committed(t)
				return tx.QueryRowContext(ctx, `SELECT count(*) FROM effects`).Scan(&inside)
			}
			s.together(t, neighbour("one"), neighbour("two"), slow, neighbour("three"))
			if inside != outside || inside != 6 {
				t.Errorf("the slow method sees %d effects, of which %d are committed; want 6", inside, outside)
			}
		})
	}
}

// TestVerdictsInBatch checks that calls of one batch see what the others have done, as if each had been committed.
func TestVerdictsInBatch(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
	raise(t, s)
	with := func(saga string, direction participant.Direction, epoch uint64, digest string) context.Context {
		return participant.NewContext(t.Context(), participant.Command{Saga: "sagas/" + saga,
			CommandID: "sagas/" + saga + "/steps/1", Direction: direction, Attempt: 1, Scope: "/0", Epoch: epoch,
			RequestDigest: digest})
	}
	refuse := func(ctx context.Context, s *service, tx *inbox.Tx) error {
		return errors.Join(insert(ctx, s, tx), errRefused)
	}
	accept := func(ctx context.Context, s *service, tx *inbox.Tx) error {
		if err := insert(ctx, s, tx); err != nil {
			return err
		}
		return participant.Pending(time.Minute)
	}
	reply := func(ctx context.Context, s *service, tx *inbox.Tx) error {
		if ok, err := inbox.ActionReply(ctx, s.inbox, tx, &customerv1.AddressChanged{}); err != nil || !ok {
			return fmt.Errorf("the action's reply: %t, %w", ok, err)
		}
		return insert(ctx, s, tx)
	}
	calls := []struct {
		waiter

		verdict string
		code    codes.Code
	}{
		{waiter{"first", with("a", participant.Action, 1, digest), insert, nil}, "executed", codes.OK},
		{waiter{"duplicate", with("a", participant.Action, 1, digest), insert, nil}, "duplicate", codes.OK},
		{waiter{"other", with("a", participant.Action, 1, otherDigest), insert, nil}, "other-request", codes.Internal},
		{waiter{"undo", with("a", participant.Compensation, 1, digest), reply, nil}, "executed", codes.OK},
		{waiter{"undo again", with("a", participant.Compensation, 1, digest), reply, nil}, "duplicate", codes.OK},
		{waiter{"late", with("a", participant.Action, 1, digest), insert, nil}, "refused-late",
			codes.FailedPrecondition},
		{waiter{"undo before", with("b", participant.Compensation, 1, digest), insert, nil}, "null-compensated",
			codes.OK},
		{waiter{"action after", with("b", participant.Action, 1, digest), insert, nil}, "refused-late",
			codes.FailedPrecondition},
		{waiter{"refused", with("c", participant.Action, 1, digest), refuse, nil}, "refused", codes.FailedPrecondition},
		{waiter{"refused again", with("c", participant.Action, 1, digest), insert, nil}, "duplicate",
			codes.FailedPrecondition},
		{waiter{"stale", with("d", participant.Action, 0, digest), insert, nil}, "stale", codes.Aborted},
		{waiter{"accepted", with("e", participant.Action, 1, digest), accept, nil}, "accepted", codes.OK},
		{waiter{"accepted again", with("e", participant.Action, 1, digest), accept, nil}, "duplicate", codes.OK},
	}
	var others []waiter
	for _, c := range calls[1:] {
		others = append(others, c.waiter)
	}
	outcomes := s.together(t, calls[0].waiter, others...)
	for _, c := range calls {
		o := outcomes[c.name]
		if _, pending := participant.IsPending(o.err); pending {
			o.err = nil
		}
		if o.verdict != c.verdict || status.Code(o.err) != c.code {
			t.Errorf("%s: %+v, want %s, %s", c.name, o, c.verdict, c.code)
		}
	}
	for saga, want := range map[string]string{"a": "action compensation", "b": "", "c": "", "d": "", "e": "action"} {
		if got := strings.Join(s.effects(t, "sagas/"+saga+"/steps/1"), " "); got != want {
			t.Errorf("effects of %s: %q, want %q", saga, got, want)
		}
	}
}

// TestEpochOutlivesBatch checks that a higher epoch stays, although the call that told it is in a batch that is rolled
// back, and fails alone, too.
func TestEpochOutlivesBatch(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
	if _, err := s.db.ExecContext(t.Context(), tables); err != nil {
		t.Fatal(err)
	}
	raise(t, s)
	next := participant.NewContext(t.Context(), participant.Command{Saga: "sagas/next",
		CommandID: "sagas/next/steps/1", Direction: participant.Action, Attempt: 1, Scope: "/0", Epoch: 2})
	outcomes := s.together(t,
		waiter{name: "first", ctx: command(t.Context(), "first", participant.Action), do: insert},
		waiter{name: "before", ctx: command(t.Context(), "before", participant.Action), do: insert},
		waiter{name: "next", ctx: next, do: both(insert, execute(`INSERT INTO forbidden VALUES (1)`))})
	if o := outcomes["next"]; status.Code(o.err) != codes.Internal {
		t.Errorf("the call of the next epoch: %+v", o)
	}
	err := s.do(command(t.Context(), "late", participant.Action), insert)
	if got := describe("", err); got != "Aborted treaty/STALE_EPOCH" {
		t.Errorf("a call of the epoch before: %s", got)
	}
}

// TestManyCallers checks that no call is lost or handled twice when there are more than a batch takes, and their
// contexts end at any time.
func TestManyCallers(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
	const callers, each = 300, 5
	var all sync.WaitGroup
	var executed atomic.Int64
	for caller := range callers {
		all.Go(func() {
			for n := range each {
				ctx, cancel := context.WithCancel(t.Context())
				if (caller+n)%7 == 0 {
					go cancel()
				}
				err := s.do(command(ctx, fmt.Sprintf("c%d-%d", caller, n), participant.Action), insert)
				cancel()
				if err == nil {
					executed.Add(1)
				} else if code := status.Code(err); code != codes.Canceled {
					t.Errorf("caller %d: %v", caller, err)
				}
			}
		})
	}
	all.Wait()
	if got := audit(t, s.db); int64(got) != executed.Load() {
		t.Errorf("%d commands were executed, and %d were answered so", got, executed.Load())
	}
}

// TestRandomFaults lets many callers do right and wrong things at the same time, with duplicates and undos. Whatever
// was answered is what is stored.
func TestRandomFaults(t *testing.T) {
	const callers, each = 16, 24
	faults := []effect{
		execute(`INSERT INTO forbidden VALUES (1)`), execute(`COMMIT`), execute(`ROLLBACK`),
		execute(`SELECT 1; ROLLBACK`),
		execute(`INSERT INTO children VALUES (7)`), execute(`INSERT INTO large VALUES (zeroblob(40000000))`),
		ignoring(execute(`INSERT INTO forbidden VALUES (1)`)), interrupted, failing(errRefused),
		func(context.Context, *service, *inbox.Tx) error { panic("no") },
		func(context.Context, *service, *inbox.Tx) error { runtime.Goexit(); return nil },
		func(ctx context.Context, _ *service, tx *inbox.Tx) error { // It leaves rows open.
			_, err := tx.QueryContext(ctx, endlessRows) //nolint:sqlclosecheck,rowserrcheck // It forgets to.
			return err
		},
		func(ctx context.Context, _ *service, _ *inbox.Tx) error { // It takes too long.
			<-time.After(15 * time.Millisecond)
			return ctx.Err()
		},
	}
	s := openWith(t, inbox.SQLiteDSN(filepath.Join(t.TempDir(), "service.db"))+"&_pragma=max_page_count(4000)",
		inbox.Options{HandlerBudget: 10 * time.Millisecond})
	if _, err := s.db.ExecContext(t.Context(), tables); err != nil {
		t.Fatal(err)
	}
	raise(t, s)
	var mu sync.Mutex
	answered := make(map[string]bool)
	var all sync.WaitGroup
	for caller := range callers {
		random := rand.New(rand.NewPCG(uint64(caller), 5))
		all.Go(func() {
			for n := range each {
				saga := fmt.Sprintf("r%d-%d", caller, n/3)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				do, direction := effect(insert), participant.Action
				switch random.IntN(6) {
				case 0, 1:
					do = both(insert, faults[random.IntN(len(faults))])
				case 2:
					direction = participant.Compensation
				case 3:
					go cancel()
				}
				done := make(chan struct{})
				go func() { // The handler may end it.
					defer close(done)
					defer func() { _ = recover() }()
					ctx := command(ctx, saga, direction)
					if s.do(ctx, do) == nil && direction == participant.Action {
						mu.Lock()
						defer mu.Unlock()
						answered[saga] = true
					}
				}()
				<-done
				cancel()
			}
		})
	}
	all.Wait()
	for saga := range answered {
		if len(s.effects(t, "sagas/"+saga+"/steps/1")) == 0 {
			t.Errorf("%s was answered as executed and has no effect", saga)
		}
	}
	t.Logf("%d commands were executed, %d sagas were answered so", audit(t, s.db), len(answered))
}

// TestCompletionsShareCommit checks that the ends of accepted commands are committed with the commands that wait, and
// that one that goes wrong harms nobody else.
func TestCompletionsShareCommit(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "service.db"))
	if _, err := s.db.ExecContext(t.Context(), tables); err != nil {
		t.Fatal(err)
	}
	raise(t, s)
	accept := func(context.Context, *service, *inbox.Tx) error { return participant.Pending(time.Hour) }
	for _, saga := range []string{"done", "refused", "spoilt"} {
		if err := s.do(command(t.Context(), saga, participant.Action), accept); !isPending(err) {
			t.Fatal(err)
		}
	}
	accepted := func(saga string) participant.Command {
		return participant.Command{CommandID: "sagas/" + saga + "/steps/1", Direction: participant.Action}
	}
	shared := make(map[string]bool)
	look := func(name string, tx *inbox.Tx) {
		var inside int
		if err := tx.QueryRowContext(t.Context(), `SELECT count(*) FROM effects`).Scan(&inside); err != nil {
			t.Error(err)
		}
		shared[name] = shared[name] || inside > s.committed(t)
	}
	end := func(saga string, do effect) error {
		_, err := inbox.Complete(t.Context(), s.inbox, accepted(saga),
			func(tx *inbox.Tx) (*customerv1.AddressChanged, error) {
				look(saga, tx)
				return &customerv1.AddressChanged{}, do(command(t.Context(), saga, participant.Action), s, tx)
			})
		return err
	}
	errs := make(map[string]error)
	var mu sync.Mutex
	ends := func(name string, end func() error) waiter {
		return waiter{name: name, direct: func() {
			err := end()
			mu.Lock()
			defer mu.Unlock()
			errs[name] = err
		}}
	}
	outcomes := s.together(t,
		waiter{name: "first", ctx: command(t.Context(), "first", participant.Action), do: insert},
		ends("done", func() error { return end("done", insert) }),
		ends("refused", func() error {
			return inbox.Refuse(t.Context(), s.inbox, accepted("refused"), errRefused, func(tx *inbox.Tx) error {
				look("refused", tx)
				return nil
			})
		}),
		ends("spoilt", func() error { return end("spoilt", both(insert, execute(`INSERT INTO children VALUES (7)`))) }),
		waiter{name: "last", ctx: command(t.Context(), "last", participant.Action), do: insert})
	for _, name := range []string{"first", "last"} {
		if o := outcomes[name]; o.err != nil || o.verdict != "executed" {
			t.Errorf("%s: %+v, want to be executed", name, o)
		}
	}
	if errs["done"] != nil || errs["refused"] != nil || status.Code(errs["spoilt"]) != codes.Unavailable {
		t.Errorf("the completions: %v, want one that is UNAVAILABLE", errs)
	}
	for _, name := range []string{"done", "refused", "spoilt"} {
		if !shared[name] {
			t.Errorf("%s had a transaction of its own only", name)
		}
	}
	if pending, err := inbox.Pending(t.Context(), s.inbox); err != nil || len(pending) != 1 ||
		pending[0].Command.CommandID != "sagas/spoilt/steps/1" {
		t.Errorf("pending are %v, %v; want the one that is spoilt", pending, err)
	}
	audit(t, s.db)
}
