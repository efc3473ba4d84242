package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/participant"
)

// Inbox is one service's inbox. The functions of this package take it. It may be used concurrently.
type Inbox struct {
	db       *sql.DB
	ledger   ledger
	guard    *guard
	options  Options
	verdicts metric.Int64Counter
	counted  map[counted][]metric.AddOption // The attributes of verdicts.
	kept     []string                       // methods
	recorded atomic.Int64
	purged   atomic.Int64 // The sequence number up to which the last purge looked.
}

// DefaultMaxReplyBytes is the default of Options.MaxReplyBytes: 4 MiB, which is what orchestrators receive, less 64 KiB
// for the message that contains the reply if it is reported later.
const DefaultMaxReplyBytes = 4<<20 - 64<<10

// DefaultHandlerBudget is the default of Options.HandlerBudget. Handlers with statements only take well under a
// millisecond.
const DefaultHandlerBudget = 250 * time.Millisecond

// Options configure an inbox.
type Options struct {
	// Retention is how long a command's rows are kept at least, after the newest of them. 0 keeps them forever.
	//
	// A row is purged when it is older than the retention and the orchestrator has said, at least every hour, that it
	// sends no more commands of the row's saga. A command whose row may have been purged isn't executed; it is answered
	// with INTERNAL and ReasonPurged. So any retention is safe. A longer one keeps the ledger readable for people.
	//
	// Orchestrators of earlier versions say nothing. Rows of their commands are purged by the retention alone, so while
	// there are such orchestrators, it must be longer than any saga can last: months rather than days.
	Retention time.Duration

	// MaxReplyBytes is the size of the largest reply. A handler with a larger one fails before anything is committed,
	// see [Handle]. If the server's limit is lower, that one counts (participant.Options.MaxMessageBytes). It is at
	// most 4 MiB, which is what orchestrators receive. Default DefaultMaxReplyBytes.
	MaxReplyBytes int

	// HandlerBudget is how long a handler may run while other commands wait for the commit of the transaction that it
	// shares with them. Then that is rolled back, they run again without it, and the method's handlers run alone from
	// now on, each in a transaction of its own. A handler for which no other command waits has no limit but its call's.
	// Default DefaultHandlerBudget.
	HandlerBudget time.Duration

	// Methods are the full names of the services or methods whose handlers use this inbox for every command, such as
	// "acme.card.v1.CardService" or "acme.card.v1.CardService/IssueCard". Of these, an orchestrator may ask what became
	// of a command. A service stands for all methods in its contract.
	Methods []string
}

// ledger stores an inbox's rows in one kind of database. Methods with a tx are called in a transaction that begin
// started.
type ledger interface { //nolint:interfacebloat // One kind of database has all of it.
	scopeLedger

	// guarding returns the guard of the database, or nil.
	guarding() *guard

	// create creates the table unless it exists.
	create(ctx context.Context, db *sql.DB) error

	// begin starts a transaction. No other transaction works on the same command until done is called, which must be
	// after the transaction has ended.
	begin(ctx context.Context, db *sql.DB, commandID string) (tx *transaction, done func(), err error)

	// conflicts reports whether an error says that the database has ended a transaction because of others, so that it
	// has to be repeated.
	conflicts(err error) bool

	// broken returns what a handler has done to its transaction, if the statement after it failed with an error. It is
	// empty if that isn't known.
	broken(err error) mistake

	// hold returns what is known of a command's scope, and keeps it so until the transaction ends. It returns nil if
	// nothing can have changed since look.
	hold(ctx context.Context, tx querier, command participant.Command) (*scopeRow, error)

	// together returns what commits many calls in one transaction. It is nil if each call has to run in a transaction
	// of its own, as in a database that commits groups by itself.
	together(db *sql.DB) *committer

	// look returns what the ledger holds about a command.
	look(ctx context.Context, tx querier, command participant.Command) (seen, error)

	// add stores an entry.
	add(ctx context.Context, tx querier, e *entry) error

	// settle replaces the verdict and the answer of an accepted command.
	settle(ctx context.Context, tx querier, e *entry) error

	// drop deletes a command's row in one direction.
	drop(ctx context.Context, tx querier, command participant.Command) error

	// accepted returns the accepted commands that have been neither completed nor compensated, oldest first.
	accepted(ctx context.Context, db *sql.DB) ([]PendingCommand, error)

	// duplicate counts a duplicate and stores its epoch if it is higher.
	duplicate(ctx context.Context, tx querier, command participant.Command) error

	// purge looks at a batch of rows after a sequence number. It deletes the commands among them that aren't pending,
	// whose newest row is older than before, and whose saga started before the horizon of its scope, if it has one. It
	// returns how many rows it deleted and the last sequence number that it looked at, which is 0 if there was no row.
	purge(ctx context.Context, tx querier, before time.Time, after int64) (deleted, last int64, err error)
}

// scopeLedger is the part of a ledger that a Keeper needs.
type scopeLedger interface {
	// scope returns what is known of a scope, or nil.
	scope(ctx context.Context, tx querier, name string) (*scopeRow, error)

	// lockScope is like scope, and keeps others from changing what is known until the transaction ends.
	lockScope(ctx context.Context, tx querier, name string) (*scopeRow, error)

	// putScope stores what is known of a scope.
	putScope(ctx context.Context, tx querier, row *scopeRow) error

	// list calls yield for the rows of a scope and those without one. They are the rows of a saga after a command id
	// and direction, in their order, if saga isn't empty; and otherwise those last changed at or after a time, with a
	// sequence number greater than after, in the order of these. It stops after limit rows.
	list(ctx context.Context, tx querier, selection listSelection, yield func(*listedRow) error) error
}

// transaction is a transaction of an inbox.
type transaction struct {
	*sql.Tx

	conn *sql.Conn // Its connection, or nil if handlers must not have it.
}

func newInbox(ctx context.Context, db *sql.DB, l ledger, options Options) (*Inbox, error) {
	verdicts, err := otel.Meter(meterName).Int64Counter("treaty.inbox.verdicts",
		metric.WithDescription("Commands by the inbox's verdict."), metric.WithUnit("{command}"))
	if err != nil {
		return nil, fmt.Errorf("opening the inbox: %w", err)
	}
	if err := l.create(ctx, db); err != nil {
		return nil, fmt.Errorf("opening the inbox: creating its table: %w", err)
	}
	kept, err := keptMethods(options.Methods)
	if err != nil {
		return nil, fmt.Errorf("opening the inbox: %w", err)
	}
	if options.MaxReplyBytes <= 0 {
		options.MaxReplyBytes = DefaultMaxReplyBytes
	}
	if options.HandlerBudget <= 0 {
		options.HandlerBudget = DefaultHandlerBudget
	}
	if options.MaxReplyBytes > participant.DefaultMaxMessageBytes {
		return nil, fmt.Errorf("opening the inbox: MaxReplyBytes is %d: orchestrators receive at most %d",
			options.MaxReplyBytes, participant.DefaultMaxMessageBytes)
	}
	return &Inbox{
		db: db, ledger: l, guard: l.guarding(), options: options, verdicts: verdicts, counted: countedVerdicts(),
		kept: kept,
	}, nil
}

const meterName = "github.com/treatyhq/treaty/participant/inbox"

// ActionReply reads the reply of the action that a compensation undoes into out. Use it if the request doesn't contain
// the reply because the orchestrator never received it. Call it in the handler of the compensation, with the handler's
// tx.
//
// It returns false if the action was accepted and never completed: then the compensation must undo what the acceptance
// did. It also returns false if the call isn't a compensation made for a saga. [Handle] runs the handler of a
// compensation only if its action was executed or accepted.
func ActionReply(ctx context.Context, in *Inbox, tx *Tx, out proto.Message) (bool, error) {
	command, ok, err := commandOf(ctx)
	if err != nil || !ok || command.Direction != participant.Compensation {
		return false, err
	}
	if err := tx.enter(ctx); err != nil {
		return false, err
	}
	defer tx.mu.RUnlock()
	known, err := in.ledger.look(tx.through(ctx), tx.tx, command)
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

// Purge deletes the commands whose newest row is older than before, and whose saga sends no more commands as far as its
// orchestrator has said so. It deletes one batch at a time, until none is left or ctx ends, and keeps pending commands.
// It returns how many rows it deleted. See Options.Retention for the consequences.
func Purge(ctx context.Context, in *Inbox, before time.Time) (int64, error) {
	var total, after int64
	for {
		n, last, err := in.purgeBatch(ctx, before, after)
		total, after = total+n, last
		if err != nil || last == 0 {
			return total, err
		}
	}
}

func (i *Inbox) purgeBatch(ctx context.Context, before time.Time, after int64) (n, last int64, err error) {
	err = i.repeated(ctx, func() error {
		n, last, err = i.tryPurge(ctx, before, after)
		return err
	})
	return n, last, err
}

func (i *Inbox) tryPurge(ctx context.Context, before time.Time, after int64) (n, last int64, err error) {
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
		return 0, 0, fmt.Errorf("purging the inbox: %w", errors.Join(err, rollback(tx.Tx)))
	}
	return n, last, nil
}

// purgeEvery is how many new rows are added before a batch of old rows is purged.
const purgeEvery = 1000

// purgeSometimes limits the size of the table without a goroutine. A purge that fails is tried again later.
func (i *Inbox) purgeSometimes(ctx context.Context) {
	if i.options.Retention > 0 && i.recorded.Add(1)%purgeEvery == 0 {
		if _, last, err := i.purgeBatch(ctx, time.Now().Add(-i.options.Retention), i.purged.Load()); err == nil {
			i.purged.Store(last)
		}
	}
}

// maxRuns is how often a transaction is tried that the database has ended because of others.
const maxRuns = 10

// repeated calls f until it returns an error that isn't a conflict with another transaction, or none.
func (i *Inbox) repeated(ctx context.Context, f func() error) error {
	for run := 1; ; run++ {
		err := f()
		if err == nil || run == maxRuns || !i.ledger.conflicts(err) || pause(ctx, run) != nil {
			return err
		}
	}
}

// pause waits before another run, longer each time, and not as long as others that do the same.
func pause(ctx context.Context, run int) error {
	timer := time.NewTimer(rand.N(time.Millisecond << run))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rollback rolls back a transaction unless it has ended already.
func rollback(tx *sql.Tx) error {
	if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return err
	}
	return nil
}

// unavailable turns a database's error into a status that leaves open whether the command was executed. The error's
// text doesn't reach the caller.
func unavailable(doing string, err error) error {
	var misuse *misuseError
	switch {
	case errors.As(err, &misuse):
		return misuse
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, doing+": the call's deadline passed")
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, doing+": the caller cancelled the call")
	default:
		return &databaseError{
			status: status.New(codes.Unavailable, doing+": the service's database failed"), cause: err,
		}
	}
}

// databaseError is a status for the caller with its cause for the service's log.
type databaseError struct {
	status *status.Status
	cause  error
}

// Error returns the status and its cause.
func (e *databaseError) Error() string { return e.status.Message() + ": " + e.cause.Error() }

// Unwrap returns the cause.
func (e *databaseError) Unwrap() error { return e.cause }

// GRPCStatus returns the part that the caller may know.
func (e *databaseError) GRPCStatus() *status.Status { return e.status }
