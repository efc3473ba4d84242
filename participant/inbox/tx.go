package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"slices"
	"sync"
)

// Tx is the transaction of a handler. It has the methods of [sql.Tx] that run statements, so it fits code that is
// generated for a database or a transaction, such as sqlc's DBTX. It has neither Commit nor Rollback, because the inbox
// ends the transaction together with the command's answer.
//
// It may be used concurrently, but only until the handler returns: wait for the goroutines that use it. After that, its
// methods return an error that wraps [sql.ErrTxDone], and an error is logged, because the statement is missing in what
// was committed. Rows and statements that the handler has left open are closed.
type Tx struct {
	tx      querier
	handler string                          // Whose transaction it is, for errors.
	shared  bool                            // The effects of other calls are in it, so no context reaches the database.
	mark    func(ctx context.Context) error // Called before the first statement, if it isn't nil.
	conn    *sql.Conn                       // Nil if the handler must not have it.

	mu         sync.RWMutex // Held for reading while a statement runs.
	ended      bool
	late       bool // It was taken from the handler.
	statements []*sql.Stmt
	adding     sync.Mutex // Guards what follows, and statements, while mu is held for reading.
	marked     bool
	failures   []error // Of statements. Those of rows and of prepared statements don't come here.
}

// ExecContext runs a statement that returns no rows, as [sql.Tx.ExecContext] does.
func (t *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.mu.RUnlock()
	result, err := t.tx.ExecContext(t.through(ctx), query, args...)
	return result, t.note(err)
}

// QueryContext runs a statement that returns rows, as [sql.Tx.QueryContext] does. The caller closes the rows.
func (t *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.mu.RUnlock()
	rows, err := t.tx.QueryContext(t.through(ctx), query, args...) //nolint:sqlclosecheck // The caller closes them.
	return rows, t.note(err)
}

// QueryRowContext runs a statement that returns at most one row, as [sql.Tx.QueryRowContext] does. It never returns
// nil; Scan returns the errors.
func (t *Tx) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if err := t.enter(ctx); err != nil {
		return failedRow(err)
	}
	defer t.mu.RUnlock()
	return t.tx.QueryRowContext(t.through(ctx), query, args...)
}

// PrepareContext prepares a statement for use in this transaction, as [sql.Tx.PrepareContext] does. The statement is
// closed when the handler returns.
func (t *Tx) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.mu.RUnlock()
	statement, err := t.tx.PrepareContext(t.through(ctx), query) //nolint:sqlclosecheck // The caller closes it.
	if err != nil {
		return nil, t.note(err)
	}
	t.adding.Lock()
	defer t.adding.Unlock()
	t.statements = append(t.statements, statement)
	return statement, nil
}

// Raw calls f with the connection of the transaction, as [sql.Conn.Raw] does, e.g. to copy rows into a table. It is for
// PostgreSQL only, and returns an error with SQLite. f must leave COMMIT, ROLLBACK and the connection's settings alone.
func (t *Tx) Raw(ctx context.Context, f func(driverConn any) error) error {
	if err := t.enter(ctx); err != nil {
		return err
	}
	defer t.mu.RUnlock()
	if t.conn == nil {
		return fmt.Errorf("%s can't have the connection of its transaction with this database", t.handler)
	}
	return t.note(t.conn.Raw(f))
}

// note remembers the error of a statement, and returns it.
func (t *Tx) note(err error) error {
	if err != nil && t.conn != nil {
		t.adding.Lock()
		defer t.adding.Unlock()
		t.failures = append(t.failures, err)
	}
	return err
}

// failure returns the first error of a statement that is of a kind, or nil.
func (t *Tx) failure(is func(error) bool) error {
	t.adding.Lock()
	defer t.adding.Unlock()
	if at := slices.IndexFunc(t.failures, is); at >= 0 {
		return t.failures[at]
	}
	return nil
}

// enter is called before a statement. If it returns nil, mu is held for reading.
func (t *Tx) enter(ctx context.Context) error {
	t.mu.RLock()
	ended, late := t.ended, t.late
	if !ended && (!t.shared || ctx.Err() == nil) {
		err := t.first(ctx)
		if err != nil {
			t.mu.RUnlock()
		}
		return err
	}
	t.mu.RUnlock()
	switch {
	case !ended:
		return ctx.Err()
	case late:
		return fmt.Errorf("%s has taken longer than Options.HandlerBudget, and will run again: %w", t.handler,
			sql.ErrTxDone)
	}
	err := fmt.Errorf("%s has returned, so its transaction takes no more statements: let it wait for the goroutines "+
		"that it starts: %w", t.handler, sql.ErrTxDone)
	// What was started and not waited for often ignores its errors, too.
	slog.ErrorContext(ctx, "a statement is missing in what a handler has committed", "error", err)
	return err
}

// first calls mark once, before the first statement.
func (t *Tx) first(ctx context.Context) error {
	if t.mark == nil {
		return nil
	}
	t.adding.Lock()
	defer t.adding.Unlock()
	if t.marked {
		return nil
	}
	t.marked = true
	return t.mark(ctx)
}

// through returns the context that a statement is executed with.
func (t *Tx) through(ctx context.Context) context.Context {
	if t.shared {
		return context.Background()
	}
	return ctx
}

// revoke takes the transaction from a handler that runs.
func (t *Tx) revoke() {
	t.end()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.late = true
}

// end waits for the statements that run and refuses all later ones.
func (t *Tx) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for _, statement := range t.statements {
		_ = statement.Close()
	}
}

// failedRow returns a row whose Scan returns an error. Only package sql can make one.
func failedRow(err error) *sql.Row {
	return failing().QueryRowContext(context.WithValue(context.Background(), failureKey{}, err), "")
}

// failing is a database that can't be connected to.
var failing = sync.OnceValue(func() *sql.DB { return sql.OpenDB(failingConnector{}) })

type failureKey struct{}

// failingConnector fails with the error in the context.
type failingConnector struct{}

// Connect implements driver.Connector.
func (failingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	err, _ := ctx.Value(failureKey{}).(error)
	return nil, err
}

// Driver implements driver.Connector.
func (failingConnector) Driver() driver.Driver { return nil }
