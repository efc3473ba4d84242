package postgres

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

const (
	// writers is how many transactions an instance has under way at once, each on its own connection, so that their
	// flushes share a write of the server's log.
	writers = 3

	// maxEntries and maxGroupBytes limit a transaction. A group that is larger is one of its own.
	maxEntries    = 1024
	maxGroupBytes = 8 << 20
)

// appending is an Append that waits.
type appending struct {
	shard    *Shard
	group    []*journal.Entry
	bytes    int
	eventful bool // it publishes or awaits events

	done chan error
}

// committer merges the Appends that wait, of all shards, into transactions. Two transactions that are under way never
// have a saga in common, and a saga's Appends are written in the order in which they came. All methods may be called
// concurrently.
type committer struct {
	d      *Database
	config *pgx.ConnConfig

	mu      sync.Mutex
	waiting []*appending
	busy    map[string]bool // the sagas of the transactions that are under way
	events  bool            // a transaction with events or awaits is under way
	idle    []*writer       // the last one was used last
	locked  func()          // if not nil, is called in each transaction with events or awaits once it has its locks

	keysMu           sync.Mutex
	nextKey, lastKey int64 // the keys of the block that are left

	running sync.WaitGroup
}

func newCommitter(d *Database, config *pgx.ConnConfig) *committer {
	c := &committer{d: d, config: config.Copy(), busy: make(map[string]bool)}
	if !pooled(config) {
		// Statistics of tables that grow and shrink quickly are often wrong. The indexes are always right.
		maps.Copy(c.config.RuntimeParams, map[string]string{
			"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "enable_hashjoin": "off",
			"enable_mergejoin": "off", "jit": "off",
		})
	}
	for lane := range writers {
		c.idle = append(c.idle, &writer{c: c, lane: lane})
	}
	return c
}

// close closes the connections, once no Append is under way.
func (c *committer) close() {
	c.running.Wait()
	for _, w := range c.idle {
		if w.line.isOpen() {
			_ = w.line.conn.Close(context.Background())
		}
	}
}

// submit waits until a group is written. When ctx ends before a transaction has taken it, nothing is written.
func (c *committer) submit(ctx context.Context, a *appending) error {
	a.done = make(chan error, 1)
	c.mu.Lock()
	c.waiting = append(c.waiting, a)
	c.start()
	c.mu.Unlock()
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
	}
	c.mu.Lock()
	for i, one := range c.waiting {
		if one == a {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			c.mu.Unlock()
			return ctx.Err()
		}
	}
	c.mu.Unlock()
	return <-a.done
}

// start starts a writer, if there is an idle one and something that it can write. The caller holds the mutex.
func (c *committer) start() {
	if len(c.idle) == 0 {
		return
	}
	taken := c.choose()
	if len(taken) == 0 {
		return
	}
	w := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	c.running.Go(func() { w.run(taken) })
}

// choose takes the first Append that can be written, and those that can be written with it. Transactions with events or
// awaits would only wait for each other, so one of them is under way at a time.
func (c *committer) choose() (taken []*appending) {
	var blocked map[string]bool // the sagas of the Appends that were left
	entries, bytes, rest := 0, 0, c.waiting[:0]
	for _, a := range c.waiting {
		fits := len(taken) == 0 && (!a.eventful || !c.events) || len(taken) > 0 && a.eventful == taken[0].eventful &&
			a.shard.owned.Member == taken[0].shard.owned.Member &&
			entries+len(a.group) <= maxEntries && bytes+a.bytes <= maxGroupBytes
		if fits && !a.touches(c.busy) && !a.touches(blocked) {
			taken, entries, bytes = append(taken, a), entries+len(a.group), bytes+a.bytes
			a.mark(c.busy)
			continue
		}
		if blocked == nil {
			blocked = make(map[string]bool)
		}
		a.mark(blocked)
		rest = append(rest, a)
	}
	clear(c.waiting[len(rest):])
	c.waiting = rest
	c.events = c.events || len(taken) > 0 && taken[0].eventful
	return taken
}

// touches returns whether a set has one of the sagas.
func (a *appending) touches(set map[string]bool) bool {
	if len(set) == 0 {
		return false
	}
	for _, entry := range a.group {
		if entry.Saga != "" && set[entry.Saga] {
			return true
		}
	}
	return false
}

func (a *appending) mark(set map[string]bool) {
	for _, entry := range a.group {
		if entry.Saga != "" {
			set[entry.Saga] = true
		}
	}
}

// next ends a transaction's hold of its sagas, and returns the Appends of the writer's next one. If there are none, the
// writer is idle again.
func (c *committer) next(w *writer, written []*appending) []*appending {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range written {
		for _, entry := range a.group {
			delete(c.busy, entry.Saga)
		}
	}
	if written[0].eventful {
		c.events = false
	}
	taken := c.choose()
	if len(taken) == 0 {
		c.idle = append(c.idle, w)
	} else if len(c.waiting) > 0 {
		c.start() // what this transaction was waited for
	}
	return taken
}

// keyBlock is how many keys are taken at once.
const keyBlock = 4096

// key returns the key of a new saga.
func (c *committer) key(ctx context.Context, w *writer) (int64, error) {
	c.keysMu.Lock()
	defer c.keysMu.Unlock()
	if c.nextKey == c.lastKey {
		w.line.queue(&keysStatement, int8Value(keyBlock))
		results, err := w.line.run(ctx)
		if err != nil {
			return 0, fmt.Errorf("take keys: %w", err)
		}
		c.nextKey = number(results[0].rows[0][0])
		c.lastKey = c.nextKey + keyBlock
	}
	c.nextKey++
	return c.nextKey - 1, nil
}

// writer writes transactions, one after the other, on its own connection.
type writer struct {
	c    *committer
	lane int
	line *pipeline
	args arguments
}

// run writes transactions until nothing waits that it can write.
func (w *writer) run(taken []*appending) {
	for len(taken) > 0 {
		batch := newBatch(w, taken)
		err := batch.commit(context.Background())
		next := w.c.next(w, taken)
		for _, a := range taken {
			if batch.fenced[a.shard.owned] {
				a.done <- a.shard.fenced()
			} else {
				a.done <- err
			}
		}
		taken = next
	}
}

// connectTimeout limits how long an Append waits for a connection.
const connectTimeout = 10 * time.Second

// connect opens the connection if it isn't open.
func (w *writer) connect(ctx context.Context) error {
	if w.line.isOpen() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, &w.c.config.Config)
	if err != nil {
		return err
	}
	w.line = &pipeline{conn: conn, pooled: pooled(w.c.config), prepared: make(map[string]bool)}
	return nil
}

// pause waits before a transaction is tried again.
func pause(ctx context.Context, try int) error {
	limit := time.Millisecond << min(try, 7)
	select {
	case <-time.After(rand.N(limit)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Append implements journal.Store. Groups of several calls, also of other shards, are written in one transaction.
func (s *Shard) Append(ctx context.Context, group []*journal.Entry) error {
	const doing = "append to the store"
	a := &appending{shard: s, group: group}
	for _, entry := range group {
		err := entry.Validate()
		if err == nil {
			err = validateLengths(entry)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", doing, s.name, err)
		}
		a.bytes += len(entry.Data)
		for _, event := range entry.Events {
			a.bytes += len(event.Data)
		}
		a.eventful = a.eventful || len(entry.Events) > 0 || entry.Row != nil && len(entry.Row.Awaits) > 0
	}
	if len(group) == 0 {
		return nil
	}
	end, err := s.begin(ctx)
	if err != nil {
		return fmt.Errorf("%s %s: %w", doing, s.name, err)
	}
	defer end()
	if err := s.committer.submit(ctx, a); err != nil {
		return explain(doing, s.name, err)
	}
	return nil
}

// maxIndexed is the maximum size in bytes of a text in an index, or of two in the same index. PostgreSQL's limit is
// 2,704 bytes.
const maxIndexed = 2500

// validateLengths returns an ErrInvalid if a text is too long for an index.
func validateLengths(entry *journal.Entry) error {
	long := func(texts ...string) bool {
		size := 0
		for _, text := range texts {
			size += len(text)
		}
		return size > maxIndexed
	}
	what := ""
	if long(entry.Saga) {
		what = "the id"
	}
	for _, event := range entry.Events {
		if long(event.Source, event.ID) || long(event.Subject) {
			what = "the source and the id, or the subject of an event"
		}
	}
	if row := entry.Row; row != nil {
		if long(row.Definition) || long(row.Parent.Saga) || long(row.Parent.Scope) || long(row.LocalParent) {
			what = "the definition or the parent"
		}
		for label, value := range row.Labels {
			if long(label, value) {
				what = "a label"
			}
		}
		for _, await := range row.Awaits {
			if long(await.Subject) {
				what = "the subject of an await"
			}
		}
	}
	if what == "" {
		return nil
	}
	return fmt.Errorf("%w: %s of saga %.80q is too long: the limit is %d bytes", journal.ErrInvalid, what, entry.Saga,
		maxIndexed)
}
