package inbox

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/participant"
)

// guard finds handlers that change their database around their transaction. The inbox's transaction has the database's
// write lock, so another write in the handler waits for the handler itself. If it were executed later, when the
// transaction has been given up, it would be an effect that the inbox doesn't know: it would happen again with the next
// attempt, and a compensation wouldn't undo it.
//
// The database calls a guard on the goroutine that executes the statement. The stack of that goroutine shows whether
// the statement comes from a handler. It is only looked at if something is wrong already, or about to be committed.
type guard struct {
	running atomic.Pointer[execution] // The handler that runs.

	// strays counts the handlers that run although their transactions were taken from them. All that they do to the
	// database is refused.
	strays atomic.Int32
}

// execution is one handler that runs.
type execution struct {
	handler string // "the handler of package.Service/Method"
	mistake atomic.Pointer[mistake]

	gaveUp     atomic.Bool // Something else gave up waiting for the lock that the handler's transaction has.
	rolledBack atomic.Bool // The handler has rolled back its own transaction, or another one.
}

// call is on the stack of every statement that a handler executes.
func (e *execution) call(handler run, tx *Tx) ([]byte, error) { return handler(tx) }

// made notes the first mistake of a handler.
func (e *execution) made(m mistake) { e.mistake.CompareAndSwap(nil, &m) }

// mistake is what a handler does wrong, and what to write instead.
type mistake string

const (
	mistakeWait mistake = "has written through the *sql.DB, and so waited for its own transaction: write through the " +
		"tx that it is called with"

	mistakeCommit mistake = "has committed on its own: write through the tx that it is called with, not through the " +
		"*sql.DB, and leave COMMIT to the inbox"

	mistakeRollback mistake = "has lost its transaction: it has executed ROLLBACK, or a statement failed or was " +
		"interrupted in such a way that the database rolled everything back; return the error of such a statement"

	mistakeNested mistake = "has called the inbox, which waits for it to return: do all in one handler, with the tx " +
		"that it is called with"

	mistakeOther mistake = "failed, and has rolled back another transaction than its own: write through the tx that " +
		"it is called with, not through the *sql.DB"

	mistakeTimeout mistake = "failed after a statement elsewhere had given up waiting for its transaction: if that " +
		"was a statement of its own goroutines, write through the tx that it is called with, not through the *sql.DB"
)

// The mistakes that show in PostgreSQL, after they were made.
const (
	mistakeFailed mistake = "has gone on after a statement that failed, with which PostgreSQL has ended its " +
		"transaction: return the error of such a statement, or set a savepoint before it and roll back to it"

	mistakeEnded mistake = "has ended its transaction itself, so what it wrote may have been committed without its " +
		"answer: leave COMMIT and ROLLBACK to the inbox"
)

// misuseError says that a handler did something that the inbox can't make exactly-once. Nothing was committed. It is a
// status for the caller with what the handler returned for the service's log. It doesn't wrap that, which may be a
// refusal or participant.Pending.
type misuseError struct {
	status *status.Status
	cause  error
}

func misused(handler string, m mistake, cause error) error {
	text := handler + " " + string(m)
	if m != mistakeEnded {
		text += "; nothing was committed"
	}
	return &misuseError{status: status.New(codes.Internal, text), cause: cause}
}

// Error returns the status and what the handler returned.
func (e *misuseError) Error() string {
	if e.cause == nil {
		return e.status.Message()
	}
	return e.status.Message() + ": " + e.cause.Error()
}

// GRPCStatus returns the part that the caller may know.
func (e *misuseError) GRPCStatus() *status.Status { return e.status }

// slowHandler is how long a handler may run without being reported when its call ends meanwhile.
const slowHandler = 500 * time.Millisecond

// run runs a handler in a transaction, after a savepoint. If it returns an error, the handler's effect must not be
// committed.
func (i *Inbox) run(ctx context.Context, u *unit, handlerName string, handler run) ([]byte, error) {
	e := &execution{handler: handlerName}
	u.execution, u.tx = e, &Tx{tx: u.handlers, handler: handlerName, conn: u.conn}
	if u.batch == nil {
		if err := u.mark(ctx); err != nil {
			return nil, err
		}
	} else {
		u.tx.shared, u.tx.mark = !u.first, u.mark // Not every handler executes statements.
	}
	if i.guard == nil {
		return i.runUnguarded(ctx, u, handler)
	}
	start := time.Now()
	answer, err := i.guard.runIn(u, handler)
	if ctx.Err() != nil && time.Since(start) >= slowHandler {
		slog.ErrorContext(ctx, "a call ended while its handler ran, which kept all other commands waiting: a handler "+
			"runs statements through its tx, and waits neither for the *sql.DB nor for other services",
			"handler", handlerName, "ran", time.Since(start), "error", ctx.Err())
	}
	if err := e.check(ctx, u, err); err != nil {
		return nil, err
	}
	return answer, nil
}

// runUnguarded runs a handler in a database where only its transaction shows what it has done. If it succeeds, its
// savepoint is released.
func (i *Inbox) runUnguarded(ctx context.Context, u *unit, handler run) ([]byte, error) {
	u.broken = i.ledger.broken
	answer, err := func() ([]byte, error) {
		defer u.tx.end()
		return u.execution.call(handler, u.tx)
	}()
	// A handler may turn such an error into a refusal, which must not be stored.
	if conflict := u.tx.failure(i.ledger.conflicts); conflict != nil {
		return nil, conflict
	}
	_, pending := participant.IsPending(err)
	switch {
	case ctx.Err() != nil && err == nil:
		return nil, ctx.Err()
	case err != nil && !pending:
		return nil, err
	}
	if _, failed := u.ExecContext(ctx, u.savepoint.release); failed != nil {
		return nil, u.lose(u.explain("releasing a savepoint", failed, err))
	}
	u.set = false
	return answer, err
}

// runIn runs a handler, and limits its time if others wait for it.
func (g *guard) runIn(u *unit, handler run) ([]byte, error) {
	if u.batch == nil {
		return g.run(u.execution, u.tx, handler)
	}
	c := u.batch.committer
	defer func() {
		if u.first || c.unwatch(u) {
			c.check(u)
		}
	}()
	if !u.first {
		c.watch(u)
	}
	return g.run(u.execution, u.tx, handler)
}

// check returns the error of a handler that returned err.
func (e *execution) check(ctx context.Context, u *unit, err error) error {
	m := e.mistake.Load()
	switch {
	case m != nil && *m == mistakeRollback && ctx.Err() != nil:
		return ctx.Err() // It has interrupted a statement.
	case m != nil:
		return misused(e.handler, *m, err)
	case e.gaveUp.Load() && hasNoStatus(err):
		return misused(e.handler, mistakeTimeout, err)
	case ctx.Err() != nil && err == nil:
		return ctx.Err()
	case u.lost:
		return misused(e.handler, mistakeRollback, err)
	case !e.rolledBack.Load():
		return err
	case ctx.Err() == nil && hasNoStatus(err):
		return misused(e.handler, mistakeOther, err)
	}
	if _, pending := participant.IsPending(err); err != nil && !pending {
		return err
	}
	// Was it the handler's own transaction?
	if lost := u.alive(ctx); lost != nil {
		return misused(e.handler, mistakeRollback, errors.Join(lost, err))
	}
	return err
}

// hasNoStatus reports whether an error doesn't say what to answer.
func hasNoStatus(err error) bool {
	var said interface{ GRPCStatus() *status.Status }
	_, pending := participant.IsPending(err)
	return err != nil && !pending && !errors.As(err, &said)
}

func (g *guard) run(e *execution, tx *Tx, handler run) ([]byte, error) {
	g.running.Store(e)
	defer g.running.CompareAndSwap(e, nil)
	defer tx.end()
	return e.call(handler, tx)
}

// disown says that a handler that runs doesn't have a transaction any more.
func (g *guard) disown(e *execution) {
	g.strays.Add(1)
	g.running.CompareAndSwap(e, nil)
}

// idle reports whether no handler runs.
func (g *guard) idle() bool { return g.running.Load() == nil && g.strays.Load() == 0 }

// made notes a mistake of the handler that runs. If there are strays, it may be one of theirs, which run again.
func (g *guard) made(m mistake) {
	if e := g.running.Load(); e != nil && g.strays.Load() == 0 {
		e.made(m)
	}
}

// busy is called when a statement waits for a lock of the database. It reports whether to wait on.
func (g *guard) busy() bool {
	if g.idle() || origin() != fromHandler {
		return true
	}
	g.made(mistakeWait)
	return false
}

// timedOut is called when a statement gives up waiting.
func (g *guard) timedOut() {
	if e := g.running.Load(); e != nil {
		e.gaveUp.Store(true)
	}
}

// committing is called before a commit. It reports whether to commit.
func (g *guard) committing() bool {
	if g.idle() || origin() == fromElsewhere {
		return true
	}
	g.made(mistakeCommit)
	return false
}

// rolledBack is called when a transaction is rolled back.
func (g *guard) rolledBack() {
	e := g.running.Load()
	if e == nil {
		return
	}
	switch origin() {
	case fromTx:
		e.made(mistakeRollback)
	case fromHandler: // Of its own transaction, or of another one.
		e.rolledBack.Store(true)
	case fromElsewhere:
	}
}

// nested returns an error if the inbox is called by a handler.
func (g *guard) nested() error {
	if g.idle() || origin() == fromElsewhere {
		return nil
	}
	name := "a handler"
	if e := g.running.Load(); e != nil {
		name = e.handler
	}
	return misused(name, mistakeNested, nil)
}

// statementOrigin is where a statement comes from.
type statementOrigin int

const (
	fromElsewhere statementOrigin = iota // Not from a handler.
	fromTx                               // From a method of a handler's Tx.
	fromHandler                          // From a handler, but not from its Tx.
)

var (
	handlerFrame = runtime.FuncForPC(reflect.ValueOf((*execution).call).Pointer()).Name()
	txFrames     = strings.TrimSuffix(runtime.FuncForPC(reflect.ValueOf((*Tx).end).Pointer()).Name(), "end")
)

// origin finds out where the statement that this goroutine executes comes from.
func origin() statementOrigin {
	var counters [64]uintptr
	for skip := 2; ; skip += len(counters) {
		n := runtime.Callers(skip, counters[:])
		frames := runtime.CallersFrames(counters[:n])
		for more := n > 0; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			switch {
			case frame.Function == handlerFrame:
				return fromHandler
			case strings.HasPrefix(frame.Function, txFrames):
				return fromTx
			}
		}
		if n < len(counters) {
			return fromElsewhere
		}
	}
}
