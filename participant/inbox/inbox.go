package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/participant"
)

// Inbox is one service's inbox. It may be used concurrently.
type Inbox struct {
	db       *sql.DB
	ledger   ledger
	options  Options
	verdicts metric.Int64Counter
	recorded atomic.Int64
	purged   atomic.Int64 // up to where the last purge has looked
}

// Options says how an inbox works.
type Options struct {
	// Retention is how long the rows of a command are kept after its newest. 0 keeps them for ever.
	//
	// A duplicate that comes after its row is gone is executed again, and an undo that comes after its action's row is gone undoes
	// nothing. So the retention must be longer than any saga can last, suspended ones and those waiting for a participant
	// that is down included: months rather than days.
	Retention time.Duration
}

// ledger is how an inbox keeps its rows in one kind of database. Its methods are called inside a transaction that begin
// started.
type ledger interface {
	// create makes the table unless it is there.
	create(ctx context.Context, db *sql.DB) error

	// begin starts a transaction in which no other one works on the same command until done is called, after the
	// transaction has ended.
	begin(ctx context.Context, db *sql.DB, commandID string) (tx *sql.Tx, done func(), err error)

	// look returns what is known of a command.
	look(ctx context.Context, tx *sql.Tx, command participant.Command) (seen, error)

	// add stores an entry.
	add(ctx context.Context, tx *sql.Tx, e *entry) error

	// settle replaces the verdict and the answer of a command that was accepted.
	settle(ctx context.Context, tx *sql.Tx, e *entry) error

	// drop deletes a command's row in one direction.
	drop(ctx context.Context, tx *sql.Tx, command participant.Command) error

	// accepted returns the commands that were accepted, and neither completed nor undone since, oldest first.
	accepted(ctx context.Context, db *sql.DB) ([]PendingCommand, error)

	// duplicate counts a duplicate and remembers its epoch.
	duplicate(ctx context.Context, tx *sql.Tx, command participant.Command) error

	// purge looks at some rows after a place in the table, and deletes the commands among them that aren't pending and whose newest row is older. It
	// returns how many rows that were, and up to where it looked; 0 when there was no row.
	purge(ctx context.Context, tx *sql.Tx, before time.Time, after int64) (deleted, last int64, err error)
}

func newInbox(ctx context.Context, db *sql.DB, l ledger, options Options) (*Inbox, error) {
	verdicts, err := otel.Meter(scope).Int64Counter("treaty.inbox.verdicts",
		metric.WithDescription("What the inbox did with the commands that came."), metric.WithUnit("{command}"))
	if err != nil {
		return nil, fmt.Errorf("opening the inbox: %w", err)
	}
	if err := l.create(ctx, db); err != nil {
		return nil, fmt.Errorf("opening the inbox: creating its table: %w", err)
	}
	return &Inbox{db: db, ledger: l, options: options, verdicts: verdicts}, nil
}

const scope = "github.com/treatyhq/treaty/participant/inbox"

// ActionReply gives a compensation's handler the reply of the action that it undoes, for when the request doesn't hold it because
// the orchestrator never heard it. It must be called with the handler's transaction. It returns false when the call isn't
// a compensation for a saga, and when the action was accepted and never completed: what is there to undo is then what its acceptance did. A
// compensation's handler that [Handle] runs has an action of one of the two kinds.
func (i *Inbox) ActionReply(ctx context.Context, tx *sql.Tx, out proto.Message) (bool, error) {
	command, ok, err := commandOf(ctx)
	if err != nil || !ok || command.Direction != participant.Compensation {
		return false, err
	}
	known, err := i.ledger.look(ctx, tx, command)
	if err != nil {
		return false, unavailable("reading the action's reply", err)
	}
	if known.action == nil || known.action.verdict != Executed {
		return false, nil
	}
	if err := proto.Unmarshal(known.action.answer, out); err != nil {
		return false, fmt.Errorf("reading the reply of %s: %w", command.CommandID, err)
	}
	return true, nil
}

// Purge deletes commands whose newest row is older than the given time, a batch at a time, until there are none or ctx ends; those that
// are pending stay. It returns how many rows it deleted. See Options.Retention for what is lost.
func (i *Inbox) Purge(ctx context.Context, before time.Time) (int64, error) {
	var total, after int64
	for {
		n, last, err := i.purgeBatch(ctx, before, after)
		total, after = total+n, last
		if err != nil || last == 0 {
			return total, err
		}
	}
}

func (i *Inbox) purgeBatch(ctx context.Context, before time.Time, after int64) (n, last int64, err error) {
	tx, done, err := i.ledger.begin(ctx, i.db, "")
	if err != nil {
		return 0, 0, fmt.Errorf("purging the inbox: %w", err)
	}
	defer done()
	n, last, err = i.ledger.purge(ctx, tx, before, after)
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("purging the inbox: %w", errors.Join(err, rollback(tx)))
	}
	return n, last, nil
}

// purgeEvery is after how many new rows a batch of old ones is purged.
const purgeEvery = 1000

// purgeSometimes keeps the table at its size without a goroutine of its own. A purge that fails is tried again later.
func (i *Inbox) purgeSometimes(ctx context.Context) {
	if i.options.Retention > 0 && i.recorded.Add(1)%purgeEvery == 0 {
		if _, last, err := i.purgeBatch(ctx, time.Now().Add(-i.options.Retention), i.purged.Load()); err == nil {
			i.purged.Store(last)
		}
	}
}

// rollback ends a transaction that may have ended already.
func rollback(tx *sql.Tx) error {
	if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	return nil
}

// unavailable turns the database's error into a status that leaves open whether the command was executed. Its text stays in
// the service.
func unavailable(doing string, err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, doing+": the call's deadline passed")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, doing+": the caller cancelled the call")
	default:
		return &databaseError{status: status.New(codes.Unavailable, doing+": the service's database failed"), cause: err}
	}
}

// databaseError is a status for the caller with its cause for the service.
type databaseError struct {
	status *status.Status
	cause  error
}

// Error returns the status and its cause, for the service's own log.
func (e *databaseError) Error() string { return e.status.Message() + ": " + e.cause.Error() }

// Unwrap returns the cause.
func (e *databaseError) Unwrap() error { return e.cause }

// GRPCStatus returns what the caller may know.
func (e *databaseError) GRPCStatus() *status.Status { return e.status }
