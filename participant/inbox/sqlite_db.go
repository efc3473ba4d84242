package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// sqliteDriver is the name of the driver that the caller imports.
const sqliteDriver = "sqlite3"

// OpenSQLiteDB opens a participant's SQLite database for [OpenSQLite]. Use it in place of [sql.Open], with a data
// source name such as [SQLiteDSN] returns. It connects when the database is first used, as sql.Open does. The caller
// imports the driver, github.com/ncruces/go-sqlite3/driver, and closes the database. Only the owner can read a file
// that is created, whatever the process's umask is; one that exists keeps its mode.
//
// The database notices if a handler of the inbox writes through it and not through the handler's [Tx]. Such a write
// fails at once, and so does the handler's call: see [Handle]. In all other respects it is an ordinary database, for
// reads and for writes that aren't effects of commands. If SetMaxOpenConns limits it to one connection, a handler that
// uses it by mistake waits until its call ends, and each command has a commit of its own, so allow more.
func OpenSQLiteDB(dataSource string) (*sql.DB, error) {
	named, err := sql.Open(sqliteDriver, dataSource)
	if err != nil {
		return nil, fmt.Errorf("opening the inbox's database: %w: import _ "+
			`"github.com/ncruces/go-sqlite3/driver", and check the data source name`, err)
	}
	defer func() { _ = named.Close() }() // It never connects.
	opener, ok := named.Driver().(driver.DriverContext)
	if !ok {
		return nil, fmt.Errorf("opening the inbox's database: %w", errDriver)
	}
	connector, err := opener.OpenConnector(dataSource)
	if err != nil {
		return nil, fmt.Errorf("opening the inbox's database: %w", err)
	}
	createPrivate(dataSource)
	g := new(guard)
	guarded := &guardedConnector{Connector: connector, guard: g}
	guarded.committer = newCommitter(g, &guardedConnector{Connector: connector, guard: g})
	return sql.OpenDB(guarded), nil
}

var (
	errDriver = errors.New(`the driver "sqlite3" isn't that of github.com/ncruces/go-sqlite3: import _ ` +
		`"github.com/ncruces/go-sqlite3/driver"`)

	errNotGuarded = errors.New("the database wasn't opened with inbox.OpenSQLiteDB: write " +
		`db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(path)) in place of sql.Open("sqlite3", ...)`)
)

// committerOf returns the committer of a database that [OpenSQLiteDB] has opened.
func committerOf(db *sql.DB) (*committer, error) {
	guarded, ok := db.Driver().(guardedDriver)
	if !ok {
		return nil, errNotGuarded
	}
	return guarded.committer, nil
}

// guardedDriver is the driver of a database with a guard.
type guardedDriver struct {
	driver.Driver

	committer *committer
}

// guardedConnector makes connections with a guard.
type guardedConnector struct {
	driver.Connector

	guard     *guard
	committer *committer
}

// Close implements io.Closer. The database calls it when it is closed.
func (c *guardedConnector) Close() error {
	if c.committer == nil {
		return nil
	}
	return c.committer.close()
}

// Driver implements driver.Connector.
func (c *guardedConnector) Driver() driver.Driver {
	return guardedDriver{Driver: c.Connector.Driver(), committer: c.committer}
}

// Connect implements driver.Connector.
func (c *guardedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.guard.attach(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// hookable is a connection of github.com/ncruces/go-sqlite3. Its callbacks are called on the goroutine that executes
// the statement.
type hookable interface {
	BusyHandler(f func(ctx context.Context, count int) (retry bool)) error
	CommitHook(f func() (ok bool))
	RollbackHook(f func())
}

// attach lets a connection ask the guard.
func (g *guard) attach(ctx context.Context, conn driver.Conn) error {
	hooks, ok := conn.(hookable)
	if !ok {
		return errDriver
	}
	timeout, err := busyTimeout(ctx, conn)
	if err != nil {
		return fmt.Errorf("reading the busy timeout: %w", err)
	}
	hooks.CommitHook(g.committing)
	hooks.RollbackHook(g.rolledBack)
	// It takes the place of the connection's timeout. SQLite has one such callback.
	var first time.Time
	return hooks.BusyHandler(func(ctx context.Context, count int) bool {
		switch {
		case count == 0 && !g.busy():
			return false
		case count == 0:
			first = time.Now()
		case time.Since(first) >= timeout:
			g.timedOut()
			return false
		}
		pause := time.NewTimer(rand.N(maxBusyPause))
		defer pause.Stop()
		select {
		case <-pause.C:
			return true
		case <-ctx.Done():
			return false
		}
	})
}

// maxBusyPause is the longest pause between two tries to get the database's lock.
const maxBusyPause = 2 * time.Millisecond

// busyTimeout returns how long the data source name lets statements wait for a lock.
func busyTimeout(ctx context.Context, conn driver.Conn) (timeout time.Duration, err error) {
	statement, err := conn.Prepare(`PRAGMA busy_timeout`)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, statement.Close()) }()
	querier, ok := statement.(driver.StmtQueryContext)
	if !ok {
		return 0, errDriver
	}
	rows, err := querier.QueryContext(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make([]driver.Value, len(rows.Columns()))
	if err := rows.Next(values); err != nil {
		return 0, err
	}
	for _, value := range values {
		if milliseconds, ok := value.(int64); ok {
			timeout = time.Duration(milliseconds) * time.Millisecond
		}
	}
	return timeout, nil
}
