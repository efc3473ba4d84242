package inbox

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// unit is what one call does in a transaction: one of its own, or that of a batch.
type unit struct {
	querier // For the inbox itself. Handlers get a Tx.

	handlers  querier   // What the handler's Tx executes its statements with.
	conn      *sql.Conn // That of handlers, if they may have it. Nobody but them watches what they do to it then.
	savepoint savepoint
	set       bool   // The savepoint is set.
	storing   bool   // The inbox itself has begun to write.
	method    string // Empty outside of a gRPC server.

	// batch is nil if the transaction is the unit's own.
	batch *batch

	budget time.Duration // How long the handler may run while other calls wait for the commit.

	// first says that nobody waits for the commit of the unit's batch yet. Then the contexts of the call and its
	// statements reach the database: if it rolls the transaction back, nothing of another call is lost.
	first bool

	// lost says that the transaction was rolled back, or that it isn't known what is in it. Nothing more may run in it.
	lost bool

	execution *execution
	broken    func(error) mistake // See ledger. Nil if a guard finds mistakes.
	tx        *Tx
	revoked   chan struct{} // Not nil if the handler took too long. Closed when its batch has been rolled back.
}

// savepoint is the statements about one.
type savepoint struct{ set, release, undo string }

func savepointNamed(name string) savepoint {
	return savepoint{set: `SAVEPOINT ` + name, release: `RELEASE ` + name, undo: `ROLLBACK TO ` + name}
}

// ownSavepoint is that of transactions of one call.
var ownSavepoint = savepointNamed(`treaty_handler`)

// conclusion is what a unit comes to.
type conclusion struct {
	answer  []byte
	err     error
	verdict Verdict
	keep    bool // Whether what the unit wrote is committed. If not, the verdict is final all the same.
	raise   bool // Nothing was done: the epoch of the call's scope has to be raised before.
}

// failed concludes a unit of which nothing is kept.
func failed(err error) conclusion { return conclusion{err: err} }

// mark sets the savepoint before the handler runs.
func (u *unit) mark(ctx context.Context) error {
	if _, err := u.ExecContext(ctx, u.savepoint.set); err != nil {
		return u.lose(unavailable("setting a savepoint", err))
	}
	u.set = true
	return nil
}

// accept keeps what the handler wrote as a part of the transaction. It fails if the transaction isn't the one in which
// the savepoint was set.
func (u *unit) accept(ctx context.Context) error {
	if u.batch == nil || !u.set {
		return nil // It is committed, or not; or there is nothing.
	}
	if _, err := u.ExecContext(ctx, u.savepoint.release); err != nil {
		return u.lose(unavailable("releasing a savepoint", err))
	}
	u.set = false
	return nil
}

// undo rolls back what the handler wrote.
func (u *unit) undo(ctx context.Context) error {
	if !u.set {
		return nil
	}
	if _, err := u.ExecContext(ctx, u.savepoint.undo); err != nil {
		return u.lose(u.explain("rolling a command back", err, nil))
	}
	return u.accept(ctx)
}

// explain returns the error for a statement after the handler that failed.
func (u *unit) explain(doing string, err, cause error) error {
	if u.broken != nil {
		if m := u.broken(err); m != "" {
			return misused(u.execution.handler, m, errors.Join(err, cause))
		}
	}
	return unavailable(doing, err)
}

// lose says that nothing more may run in the transaction, and returns the error.
func (u *unit) lose(err error) error {
	u.lost = true
	return err
}

// alive returns an error if the handler's transaction isn't open any more.
func (u *unit) alive(ctx context.Context) error {
	switch {
	case u.lost:
		return errLost
	case u.batch != nil:
		return nil // It is checked after each handler.
	default:
		_, err := u.ExecContext(context.WithoutCancel(ctx), u.savepoint.release)
		return err
	}
}

var errLost = errors.New("the transaction isn't open any more")
