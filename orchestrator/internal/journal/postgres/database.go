package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Database is a store's database. It is a journal.Reader of all shards. All methods may be called concurrently.
type Database struct {
	name     string
	pool     *pgxpool.Pool
	readOnly bool

	// identity is what the store said when it was connected, without what a shard says.
	identity journal.Identity

	names     names
	committer *committer // nil if the database is open for reading
	hints     hints

	size atomic.Int64

	closing sync.Once
	closed  chan struct{}
	calls   sync.WaitGroup
	callsMu sync.RWMutex // held for writing to close
}

// Connect connects to the database that a URL names, creates or migrates the store's tables, and makes the store belong
// to the name of the opening if it is new. It begins no epoch: that is the shards' owners'. The context limits only the
// connecting. Several processes may connect at the same time.
//
// It returns ErrName if the store belongs to an orchestrator with another name, ErrBackup if it is a backup, ErrVersion
// if a newer version wrote it, and ErrReadOnly if the server doesn't accept writes. No error has the URL's password.
func Connect(ctx context.Context, url string, opening journal.Opening) (*Database, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	return connect(ctx, config, opening)
}

func connect(ctx context.Context, config *pgxpool.Config, opening journal.Opening) (*Database, error) {
	if config.ConnConfig.ValidateConnect == nil {
		config.ConnConfig.ValidateConnect = refuseReadOnly
	}
	name := nameOf(config.ConnConfig)
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, explain("connect to", name, err)
	}
	var identity journal.Identity
	err = checkServer(conn.PgConn().ParameterStatus)
	if err == nil {
		err = checkDurable(ctx, conn)
	}
	if err == nil {
		err = migrate(ctx, conn)
	}
	if err == nil {
		identity, err = identify(ctx, conn, opening)
	}
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return nil, explain("open the store", name, err)
	}
	d := &Database{name: name, identity: identity, hints: newHints(), closed: make(chan struct{})}
	if d.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, explain("connect to", name, err)
	}
	d.committer = newCommitter(d, config.ConnConfig)
	return d, nil
}

// checkDurable returns an error if the server acknowledges transactions before they are durable.
func checkDurable(ctx context.Context, conn *pgx.Conn) error {
	var setting string
	if err := conn.QueryRow(ctx, `SHOW synchronous_commit`).Scan(&setting); err != nil {
		return err
	}
	if setting == "off" {
		return errors.New("synchronous_commit is off, so what is acknowledged could be lost: set it to on for the " +
			"database")
	}
	return nil
}

// OpenReadOnly connects to the database that a URL names for reading. It changes nothing, and works with a standby, and
// while orchestrators run. The context limits only the connecting. It returns ErrVersion if another version wrote the
// store, and ErrNotFound if the database has no store.
func OpenReadOnly(ctx context.Context, url string) (*Database, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	name := nameOf(config.ConnConfig)
	if !pooled(config.ConnConfig) {
		config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	}
	conn, err := pgx.ConnectConfig(ctx, config.ConnConfig)
	if err != nil {
		return nil, explain("connect to", name, err)
	}
	d := &Database{name: name, readOnly: true, closed: make(chan struct{})}
	err = checkServer(conn.PgConn().ParameterStatus)
	if err == nil {
		err = checkSchema(ctx, conn)
	}
	if err == nil {
		d.identity, err = readIdentity(ctx, conn)
	}
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return nil, explain("open the store", name, err)
	}
	if d.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, explain("connect to", name, err)
	}
	return d, nil
}

// checkSchema returns an error if the tables aren't those of this program's schema.
func checkSchema(ctx context.Context, conn *pgx.Conn) error {
	files, err := migrationFiles()
	if err != nil {
		return err
	}
	version, err := schemaVersion(ctx, conn, "")
	switch {
	case err != nil:
		return err
	case version == 0:
		return fmt.Errorf("%w: the database has no store; start an orchestrator with it first", journal.ErrNotFound)
	case version > len(files):
		return newerSchema(version, len(files))
	case version < len(files):
		return fmt.Errorf("%w: its schema has version %d, this program supports %d; start this version of the "+
			"orchestrator with it first", journal.ErrVersion, version, len(files))
	}
	return nil
}

// Name returns where the database is, as a URL without its password.
func (d *Database) Name() string { return d.name }

// Pool returns the pool of connections that read, for other packages that keep something in the same database.
func (d *Database) Pool() *pgxpool.Pool { return d.pool }

// Gone is nil: a database that can't be found may come back.
func (d *Database) Gone() <-chan struct{} { return nil }

// Failed is nil: a connection that has failed is opened again.
func (d *Database) Failed() <-chan struct{} { return nil }

// Size returns how much room the database takes, as Watch has read it last, or zero. The log is the server's, and isn't
// counted.
func (d *Database) Size() journal.Size { return journal.Size{File: d.size.Load()} }

// Epoch returns the highest epoch of all shards when the database was connected, or 0. A Shard has its own.
func (d *Database) Epoch() uint64 { return d.identity.Epoch }

// Identity returns what the store said about itself when it was connected, without what a shard says.
func (d *Database) Identity() journal.Identity { return d.identity }

// Close waits for the calls in flight and closes all connections. Later calls of other methods return ErrClosed.
// Closing again does nothing.
func (d *Database) Close() error {
	d.closing.Do(func() {
		d.callsMu.Lock()
		close(d.closed)
		d.callsMu.Unlock()
		d.calls.Wait()
		if d.committer != nil {
			d.committer.close()
		}
		d.pool.Close()
	})
	return nil
}

// begin counts a call. The caller calls the function that it returns when the call ends.
func (d *Database) begin(ctx context.Context) (end func(), err error) {
	d.callsMu.RLock()
	defer d.callsMu.RUnlock()
	select {
	case <-d.closed:
		return nil, journal.ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.calls.Add(1)
	return d.calls.Done, nil
}

// maxTries is how often a transaction is tried that the server has rolled back because of another one.
const maxTries = 10

// read calls f in a transaction, so that it reads one state of the database. f may be called again.
func (d *Database) read(ctx context.Context, doing string, f func(ctx context.Context, tx pgx.Tx) error) error {
	return d.call(ctx, doing, func() error {
		return pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly},
			func(tx pgx.Tx) error { return f(ctx, tx) })
	})
}

// query calls f with the pool, for one statement. f may be called again.
func (d *Database) query(ctx context.Context, doing string, f func(ctx context.Context, q querier) error) error {
	return d.call(ctx, doing, func() error { return f(ctx, d.pool) })
}

// write calls f in a transaction that writes. f may be called again.
func (d *Database) write(ctx context.Context, doing string, f func(ctx context.Context, tx pgx.Tx) error) error {
	return d.call(ctx, doing, func() error {
		if d.readOnly {
			return fmt.Errorf("%w: it is open for reading", journal.ErrReadOnly)
		}
		return pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			if pooled(d.pool.Config().ConnConfig) {
				if _, err := tx.Exec(ctx, localSettings); err != nil {
					return err
				}
			}
			return f(ctx, tx)
		})
	})
}

func (d *Database) call(ctx context.Context, doing string, f func() error) error {
	end, err := d.begin(ctx)
	if err != nil {
		return fmt.Errorf("%s in the store %s: %w", doing, d.name, err)
	}
	defer end()
	for try := 1; ; try++ {
		err := f()
		if isRepeatable(err) && try < maxTries {
			if err := pause(ctx, try); err == nil {
				continue
			}
		}
		if ended := ctx.Err(); err != nil && ended != nil {
			err = ended
		}
		return explain(doing+" in the store", d.name, err)
	}
}

// isRepeatable returns whether the server has rolled back a transaction because of another one.
func isRepeatable(err error) bool {
	return isCode(err, serializationFailure, deadlockDetected, lockNotAvailable)
}
