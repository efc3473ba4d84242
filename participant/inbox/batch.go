package inbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"
)

// committer commits the commands of many calls together. Calls that wait for their turn form a batch: one transaction,
// in which they run one after the other, each on its own goroutine and after a savepoint of its own. Whoever has run
// hands the transaction on to the next call that waits. When none does, or the batch is full, it is committed, and all
// are answered. A lone call waits for nobody.
//
// If something happens to the transaction that concerns more than one call, it is rolled back, nobody is answered, and
// each of them runs again in a transaction of its own.
type committer struct {
	turns     turns
	guard     *guard
	connector driver.Connector

	// The call that has the turn uses these.
	db      *sql.DB
	conn    *sql.Conn // Nil until it is used.
	raw     *batchConn
	batched bool // Whether the last batch had more than one call.

	savepoint savepoint
	maxTime   time.Duration

	mu       sync.Mutex
	apart    bool            // Batches are impossible: another connection has another database, or it was closed.
	slow     map[string]bool // The methods that run alone.
	timer    *time.Timer
	running  *unit // Whose handler is timed.
	deadline time.Time
}

func newCommitter(g *guard, connector driver.Connector) *committer {
	return &committer{
		turns: turns{guard: g}, guard: g, connector: connector, slow: make(map[string]bool),
		savepoint: savepointNamed(fmt.Sprintf("treaty_handler_%x", rand.Uint64())), // Handlers can't know it.
		maxTime:   maxBatchTime,
	}
}

// The limits of a batch: its calls, the bytes of their answers, and how long it is filled, because the first calls wait
// for the last one.
const (
	maxBatchCalls = 256
	maxBatchBytes = 4 << 20
	maxBatchTime  = 25 * time.Millisecond
)

// maxBatchRuns is how often a call is part of a batch that is rolled back because of another call's handler. After
// that, it runs alone.
const maxBatchRuns = 3

// batch is one transaction of several calls.
type batch struct {
	committer *committer
	begun     time.Time
	calls     int // That wait for the commit.
	bytes     int
	shared    *interruptible       // With what statements run as soon as a call waits.
	scopes    map[string]*scopeRow // What is known of scopes. It changes between batches only.

	done chan struct{} // Closed when fate is known.
	fate fate
	err  error
}

// member is a call that may be part of a batch.
type member struct {
	method string
	budget time.Duration // See unit.
	work   func(*unit) conclusion
}

// fate is what became of a batch.
type fate int

const (
	fateCommitted fate = iota
	fateAlone          // It was rolled back, and each call runs alone.
	fateAgain          // It was rolled back, and each call runs in another batch.
	fateUnknown        // The commit failed, and it isn't known whether it took place.
)

// takes reports whether a call of a method may be part of a batch.
func (c *committer) takes(method string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.apart && !c.slow[method]
}

// handle runs a call as a part of a batch, which may run it more than once. It returns false if the call has to run
// alone.
func (c *committer) handle(ctx context.Context, m member) (conclusion, bool) {
	for range maxBatchRuns {
		if !c.takes(m.method) {
			break
		}
		b, err := c.turns.join(ctx)
		if err != nil {
			return failed(unavailable("beginning a transaction", err)), true
		}
		if b == nil {
			if b, err = c.begin(ctx); err != nil {
				c.turns.give()
				if errors.Is(err, errApart) {
					break
				}
				return failed(unavailable("beginning a transaction", errors.Join(ctx.Err(), err))), true
			}
		}
		done, next := b.run(ctx, m)
		switch next {
		case answered:
			return done, true
		case revoked:
			return conclusion{}, false
		case waits:
			<-b.done
		}
		switch b.fate {
		case fateCommitted:
			return done, true
		case fateUnknown:
			return failed(unavailable("committing", b.err)), true
		case fateAlone:
			return conclusion{}, false
		case fateAgain:
		}
	}
	return conclusion{}, false
}

// errApart says that the database can't have batches.
var errApart = errors.New("no batches")

// begin starts a batch. The caller has the turn.
func (c *committer) begin(ctx context.Context) (*batch, error) {
	if c.conn == nil {
		if err := c.connect(ctx); err != nil {
			return nil, err
		}
	}
	c.use(nil)
	if _, err := c.conn.ExecContext(ctx, `BEGIN IMMEDIATE`); err != nil {
		return nil, err
	}
	return &batch{
		committer: c, begun: time.Now(), shared: newInterruptible(), scopes: make(map[string]*scopeRow),
		done: make(chan struct{}),
	}, nil
}

// connect opens the connection of batches.
func (c *committer) connect(ctx context.Context) (err error) {
	c.mu.Lock()
	apart := c.apart
	c.mu.Unlock()
	if apart {
		return errApart
	}
	db := sql.OpenDB(&batchConnector{Connector: c.connector, committer: c})
	defer func() {
		if err != nil {
			err = errors.Join(err, db.Close())
		}
	}()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	s, err := schemaOf(ctx, conn)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	if s != schemaPresent { // A database in memory: each connection has another one.
		c.mu.Lock()
		c.apart = true
		c.mu.Unlock()
		return errors.Join(errApart, conn.Close())
	}
	c.db, c.conn = db, conn
	return nil
}

// batchConnector makes the connection of batches.
type batchConnector struct {
	driver.Connector

	committer *committer
}

// Connect implements driver.Connector.
func (c *batchConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := newBatchConn(conn, c.committer.guard)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c.committer.raw = raw
	return raw, nil
}

// use sets what statements run with in place of their contexts.
func (c *committer) use(shared *interruptible) {
	_ = c.conn.Raw(func(any) error {
		c.raw.shared = shared
		return nil
	})
}

// disconnect closes the connection of batches. The caller has the turn.
func (c *committer) disconnect() error {
	if c.conn == nil {
		return nil
	}
	// Rows that a handler has left open would keep sql.Conn.Close waiting.
	err := c.conn.Raw(func(any) error { return c.raw.Close() })
	err = errors.Join(err, c.db.Close())
	c.db, c.conn, c.raw = nil, nil, nil
	return err
}

// close ends all batches, when the database is closed.
func (c *committer) close() error {
	if err := c.turns.take(context.Background()); err != nil {
		return fmt.Errorf("closing the inbox's database: %w", err)
	}
	defer c.turns.give()
	c.mu.Lock()
	c.apart = true
	c.mu.Unlock()
	return c.disconnect()
}

// run runs a call in its batch and hands the batch on.
func (b *batch) run(ctx context.Context, m member) (done conclusion, next after) {
	c := b.committer
	if err := ctx.Err(); err != nil {
		b.pass()
		return failed(unavailable("beginning a transaction", err)), answered
	}
	u := &unit{
		querier: detached{c}, handlers: c.conn, savepoint: c.savepoint, method: m.method, batch: b,
		first: b.calls == 0, budget: m.budget,
	}
	if b.calls == 1 {
		c.use(b.shared)
	}
	returned := false
	defer func() {
		if !returned { // The handler has panicked, or ended its goroutine.
			u.lost = u.lost || u.storing // Then it wasn't the handler, and it isn't known what is written.
			b.finish(u, conclusion{raise: true})
		}
	}()
	done = m.work(u)
	returned = true
	return done, b.finish(u, done)
}

// after is what follows the run of a call.
type after int

const (
	answered after = iota // Its conclusion is its answer.
	waits                 // For the fate of its batch.
	revoked               // Its batch was rolled back without it.
)

// finish ends a call's run and hands its batch on.
func (b *batch) finish(u *unit, done conclusion) after {
	if u.revoked != nil {
		<-u.revoked
		b.committer.guard.strays.Add(-1)
		return revoked
	}
	if !done.keep && !u.lost {
		_ = u.undo(context.Background())
	}
	switch {
	case u.lost && u.first:
		b.rollback(fateAlone) // Nobody else has run.
		return answered
	case u.lost:
		b.rollback(fateAlone)
		return waits
	case done.raise || u.first && !done.keep: // It has left nothing behind, and has seen nothing of another call.
		b.pass()
		return answered
	}
	b.calls++
	b.bytes += len(done.answer)
	b.pass()
	return waits
}

// pass hands the batch on to the next call, or commits it.
func (b *batch) pass() {
	c := b.committer
	full := b.calls >= maxBatchCalls || b.bytes >= maxBatchBytes || time.Since(b.begun) >= c.maxTime
	if !full && c.turns.giveTo(b) {
		return
	}
	if !full && (c.batched || b.calls > 1) {
		// Those that were answered at the same time may be about to come back.
		runtime.Gosched()
		if c.turns.giveTo(b) {
			return
		}
	}
	b.commit()
}

// commit commits the batch and hands the turn on.
func (b *batch) commit() {
	c := b.committer
	c.batched = b.calls > 1
	c.use(nil)
	_, err := detached{c}.ExecContext(context.Background(), `COMMIT`)
	switch {
	case err == nil:
		b.end(fateCommitted)
	case !c.open() || b.calls == 1: // Without a transaction, it may have been committed. A lone call has run alone.
		b.err = err
		b.rollback(fateUnknown)
	default:
		b.rollback(fateAlone)
	}
}

// open reports whether there is a transaction.
func (c *committer) open() (open bool) {
	_ = c.conn.Raw(func(any) error {
		open = !c.raw.GetAutocommit()
		return nil
	})
	return open
}

// rollback rolls back the batch and hands the turn on.
func (b *batch) rollback(f fate) {
	c := b.committer
	c.use(nil)
	if c.open() {
		if _, err := (detached{c}).ExecContext(context.Background(), `ROLLBACK`); err != nil {
			_ = c.disconnect() // That rolls back, too.
		}
	}
	b.end(f)
}

// end tells the calls what became of the batch.
func (b *batch) end(f fate) {
	b.fate = f
	b.committer.turns.give()
	close(b.done)
}

// check looks after a handler whether its transaction is still open, and closes what it has left open.
func (c *committer) check(u *unit) {
	if err := c.conn.Raw(func(any) error {
		c.raw.discard()
		u.lost = u.lost || c.raw.GetAutocommit()
		return nil
	}); err != nil {
		u.lost = true
	}
}

// watch limits the time of a handler for which other calls wait.
func (c *committer) watch(u *unit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running, c.deadline = u, time.Now().Add(u.budget)
	if c.timer == nil {
		c.timer = time.AfterFunc(u.budget, c.expired)
	} else {
		c.timer.Reset(u.budget)
	}
}

// unwatch ends what watch has begun. It reports whether the handler was in time.
func (c *committer) unwatch(u *unit) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.revoked != nil {
		return false
	}
	c.running = nil
	c.timer.Stop()
	return true
}

// expired takes the transaction from a handler that has taken too long, and rolls it back.
func (c *committer) expired() {
	c.mu.Lock()
	u := c.running
	if u == nil || time.Now().Before(c.deadline) { // It was in time, and the timer is late.
		c.mu.Unlock()
		return
	}
	c.running = nil
	u.revoked = make(chan struct{})
	if u.method != "" { // Outside of a gRPC server, handlers have none.
		c.slow[u.method] = true
	}
	c.mu.Unlock()

	slog.Warn("a handler took too long while other commands waited for its transaction: they are run again without "+
		"it, and its method runs alone from now on: let it do only what needs the transaction",
		"handler", u.execution.handler, "limit", u.budget)
	u.batch.shared.cut.Store(true)
	c.guard.disown(u.execution)
	u.tx.revoke()
	_ = c.conn.Raw(func(any) error {
		c.raw.discard()
		return nil
	})
	u.batch.rollback(fateAgain)
	close(u.revoked)
}
