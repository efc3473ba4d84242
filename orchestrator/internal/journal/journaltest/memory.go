package journaltest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

var _ journal.Store = (*Memory)(nil)

// Memory is a journal.Store in memory, for tests. It keeps every promise of the interface except durability. Its
// methods read all sagas. All methods may be called concurrently.
type Memory struct {
	contents *contents
	identity journal.Identity

	mu     sync.RWMutex // calls hold it for reading, Close for writing
	closed bool
}

// contents are the contents of a store. They stay when it is closed.
type contents struct {
	mu    sync.Mutex
	sagas map[string]*saga

	identity     journal.Identity
	participants map[string]journal.Participant // by service
	lost         map[string]journal.LostSaga
	scopes       map[string]journal.HeardScope

	purged map[string]time.Time // remembered ids, and when their sagas ended; zero if they are never deleted

	events    []*journal.Event // by position
	newest    uint64
	consumers map[string]journal.Consumer
	past      []*journal.Event // events that were purged and whose ids are kept, by position
}

// saga is a saga with what only the store uses.
type saga struct {
	journal.Journal

	created uint64    // the position of the newest event when the first turn was written
	turned  time.Time // when the last turn was made, or zero if it isn't known
}

// listed returns the row as List returns it.
func (s *saga) listed() *journal.Row {
	row := listed(&s.Row)
	if !s.turned.IsZero() && (row.State == running || row.State == compensating) {
		row.UpdateTime = micro(s.turned)
	}
	return row
}

// last returns the number of the last turn.
func (s *saga) last() uint64 { return s.Turns[len(s.Turns)-1].Number }

// NewMemory returns an empty store.
func NewMemory() *Memory {
	empty := &contents{
		sagas: make(map[string]*saga), purged: make(map[string]time.Time), consumers: make(map[string]journal.Consumer),
		identity:     journal.Identity{StoreID: "memory"},
		participants: make(map[string]journal.Participant), lost: make(map[string]journal.LostSaga),
		scopes: make(map[string]journal.HeardScope),
	}
	return (&Memory{contents: empty}).Reopen()
}

// Reopen returns a store with the same contents and the next epoch, like a new process that opens the store. The old
// one need not be closed.
func (m *Memory) Reopen() *Memory {
	m.contents.mu.Lock()
	defer m.contents.mu.Unlock()
	identity := &m.contents.identity
	identity.PreviousEpoch = identity.Epoch
	identity.Epoch, identity.EpochAhead = journal.Opening{}.NextEpoch(identity.PreviousEpoch)
	return &Memory{contents: m.contents, identity: *identity}
}

// Restore returns a store with the same contents that was restored from a backup.
func (m *Memory) Restore(restored journal.Restored) *Memory {
	m.contents.mu.Lock()
	m.contents.identity.Restored, m.contents.identity.Replaced = &restored, ""
	m.contents.mu.Unlock()
	return m.Reopen()
}

// Copy returns a store with a copy of the contents, like a backup.
func (m *Memory) Copy() *Memory {
	m.contents.mu.Lock()
	defer m.contents.mu.Unlock()
	copied := &contents{
		sagas: make(map[string]*saga), purged: maps.Clone(m.contents.purged),
		events: slices.Clone(m.contents.events), past: slices.Clone(m.contents.past), newest: m.contents.newest,
		consumers: maps.Clone(m.contents.consumers), identity: m.contents.identity,
		participants: maps.Clone(m.contents.participants), lost: maps.Clone(m.contents.lost),
		scopes: maps.Clone(m.contents.scopes),
	}
	for id, s := range m.contents.sagas {
		copied.sagas[id] = &saga{Journal: *clone(s), created: s.created, turned: s.turned}
	}
	return &Memory{contents: copied, identity: copied.identity}
}

// Append implements journal.Store.
func (m *Memory) Append(ctx context.Context, group []*journal.Entry) error {
	for _, entry := range group {
		if err := entry.Validate(); err != nil {
			return fmt.Errorf("append in memory: %w", err)
		}
	}
	return m.use(ctx, "append", func(c *contents) error {
		for _, entry := range group {
			c.append(entry)
		}
		return nil
	})
}

// Load implements journal.Store.
func (m *Memory) Load(ctx context.Context, id string) (*journal.Journal, error) {
	var loaded *journal.Journal
	err := m.use(ctx, "load", func(c *contents) error {
		saga, err := c.find(id)
		if err == nil {
			loaded = clone(saga)
		}
		return err
	})
	return loaded, err
}

// Open implements journal.Store.
func (m *Memory) Open(ctx context.Context, params journal.OpenParams) ([]*journal.Journal, error) {
	var open []*journal.Journal
	err := m.use(ctx, "read open sagas", func(c *contents) error {
		if err := params.Validate(); err != nil {
			return err
		}
		for id, saga := range c.sagas {
			wanted := !journal.Final(saga.Row.State)
			if params.Which == journal.Driven {
				wanted = driven(&saga.Row)
			}
			if id > params.After && wanted {
				open = append(open, clone(saga))
			}
		}
		slices.SortFunc(open, func(a, b *journal.Journal) int { return strings.Compare(a.Row.ID, b.Row.ID) })
		open = open[:min(params.Limit, len(open))]
		return nil
	})
	return open, err
}

// Due implements journal.Store.
func (m *Memory) Due(ctx context.Context, until time.Time, limit int) ([]journal.Due, error) {
	var due []journal.Due
	err := m.page(ctx, "read timers", limit, func(c *contents) {
		for id, saga := range c.sagas {
			row := saga.Row
			if !journal.Final(row.State) && !row.Due.IsZero() && !row.Due.After(until) {
				due = append(due, journal.Due{Saga: id, Time: row.Due})
			}
		}
		slices.SortFunc(due, func(a, b journal.Due) int {
			return cmp.Or(a.Time.Compare(b.Time), strings.Compare(a.Saga, b.Saga))
		})
	})
	return due[:min(max(limit, 0), len(due))], err
}

// Get implements journal.Store.
func (m *Memory) Get(ctx context.Context, id string) (*journal.Row, error) {
	var found *journal.Row
	err := m.use(ctx, "find a saga", func(c *contents) error {
		saga, err := c.find(id)
		if err == nil {
			found = listed(&saga.Row)
		}
		return err
	})
	return found, err
}

// List implements journal.Store.
func (m *Memory) List(ctx context.Context, params journal.ListParams) ([]*journal.Row, error) {
	if err := params.Validate(); err != nil {
		return nil, fmt.Errorf("list sagas in memory: %w", err)
	}
	compare := func(a, b *journal.Row) int {
		order := cmp.Or(orderedTime(a, params.Order).Compare(orderedTime(b, params.Order)), strings.Compare(a.ID, b.ID))
		if params.Order.Descending {
			return -order
		}
		return order
	}
	var rows []*journal.Row
	err := m.page(ctx, "list sagas", params.Limit, func(c *contents) {
		for _, saga := range c.sagas {
			row := saga.listed()
			after := params.After == nil || compare(row, params.After) > 0
			if after && (params.Filter == nil || params.Filter.Match(row)) {
				rows = append(rows, row)
			}
		}
		slices.SortFunc(rows, compare)
	})
	return rows[:min(params.Limit, len(rows))], err
}

// Turns implements journal.Store.
func (m *Memory) Turns(ctx context.Context, id string, after uint64, limit int) ([]journal.Turn, error) {
	var turns []journal.Turn
	err := m.use(ctx, "read turns", func(c *contents) error {
		if err := journal.ValidateLimit(limit); err != nil {
			return err
		}
		saga, err := c.find(id)
		if err != nil {
			return err
		}
		rest := slices.Clone(saga.Turns)
		rest = slices.DeleteFunc(rest, func(turn journal.Turn) bool { return turn.Number <= after })
		turns = cloneTurns(rest[:min(limit, len(rest))])
		return nil
	})
	return turns, err
}

// Close waits for the calls in flight. Reopen can still use the contents.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// use calls f with the contents, one call at a time.
func (m *Memory) use(ctx context.Context, doing string, f func(*contents) error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	err := ctx.Err()
	if m.closed {
		err = journal.ErrClosed
	}
	if err == nil {
		m.contents.mu.Lock()
		defer m.contents.mu.Unlock()
		err = f(m.contents)
	}
	if err != nil {
		return fmt.Errorf("%s in memory: %w", doing, err)
	}
	return nil
}

// page is use for a method with a limit.
func (m *Memory) page(ctx context.Context, doing string, limit int, f func(*contents)) error {
	return m.use(ctx, doing, func(c *contents) error {
		if err := journal.ValidateLimit(limit); err != nil {
			return err
		}
		f(c)
		return nil
	})
}

func (c *contents) find(id string) (*saga, error) {
	if saga := c.sagas[id]; saga != nil {
		return saga, nil
	}
	return nil, fmt.Errorf("saga %s: %w", id, journal.ErrNotFound)
}

// append writes one entry, or sets its Err.
func (c *contents) append(entry *journal.Entry) {
	entry.Err, entry.Woken = nil, nil
	if entry.Saga != "" {
		entry.Err = c.write(entry)
	}
	c.publish(entry)
	slices.Sort(entry.Woken)
	entry.Woken = slices.Compact(entry.Woken)
}

func (c *contents) write(entry *journal.Entry) error {
	one := c.sagas[entry.Saga]
	switch {
	case entry.Turn == 1 && one != nil:
		return fmt.Errorf("saga %s: %w", entry.Saga, journal.ErrExists)
	case entry.Turn == 1 && c.isPurged(entry.Saga):
		return fmt.Errorf("saga %s: %w", entry.Saga, journal.ErrPurged)
	case entry.Turn == 1:
		row := cloneRow(entry.Row)
		row.CreateTime = micro(row.CreateTime)
		if !row.Parent.Start.IsZero() {
			row.Parent.Start = micro(row.Parent.Start)
		}
		one = &saga{Journal: journal.Journal{Row: *row}, created: c.newest}
		if lost, found := c.lost[entry.Saga]; found {
			one.created = lost.EventsAfter
		}
		c.sagas[entry.Saga] = one
		delete(c.lost, entry.Saga)
	case one == nil || one.last()+1 != entry.Turn:
		return fmt.Errorf("turn %d of saga %s: %w", entry.Turn, entry.Saga, journal.ErrConflict)
	case entry.NewRound:
		one.Turns = nil
	}
	one.turned = entry.Time
	one.Turns = append(one.Turns, journal.Turn{Number: entry.Turn, Data: slices.Clone(entry.Data)})
	if row := entry.Row; row != nil {
		one.Row.State, one.Row.Waiting, one.Row.Awaits = row.State, row.Waiting, slices.Clone(row.Awaits)
		one.Row.Suspension, one.Row.Revision = row.Suspension, row.Revision
		one.Row.UpdateTime, one.Row.EndTime, one.Row.Due = micro(row.UpdateTime), micro(row.EndTime), micro(row.Due)
		if event, _ := c.next(one, row.Awaits); event != nil {
			one.wake(row.UpdateTime, entry)
		}
	}
	return nil
}

func orderedTime(row *journal.Row, order journal.Order) time.Time {
	if order.By == journal.OrderByUpdateTime {
		return micro(row.UpdateTime)
	}
	return micro(row.CreateTime)
}

// micro returns a time as stores keep it.
func micro(t time.Time) time.Time {
	return time.UnixMicro(t.UnixMicro()).UTC()
}

func clone(saga *saga) *journal.Journal {
	return &journal.Journal{Row: *cloneRow(&saga.Row), Turns: cloneTurns(saga.Turns)}
}

func cloneRow(row *journal.Row) *journal.Row {
	copied := *row
	copied.Labels, copied.Awaits = maps.Clone(row.Labels), slices.Clone(row.Awaits)
	return &copied
}

// listed returns a row as Get and List return it.
func listed(row *journal.Row) *journal.Row {
	copied := cloneRow(row)
	copied.Awaits = nil
	return copied
}

func cloneTurns(turns []journal.Turn) []journal.Turn {
	copied := slices.Clone(turns)
	for i := range copied {
		copied[i].Data = slices.Clone(copied[i].Data)
	}
	return copied
}
