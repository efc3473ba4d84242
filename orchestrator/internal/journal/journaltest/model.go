package journaltest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// model makes random calls to the store and to a Memory, and compares the results.
func model(f *fixture) {
	const steps = 250
	runs := 8
	if testing.Short() {
		runs = 2
	}
	for seed := range uint64(runs) {
		f.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			m := &modelRun{
				fixture: &fixture{T: t, opener: f.opener, dir: t.TempDir()},
				memory:  NewMemory(), random: rand.New(rand.NewPCG(seed, 1)), length: make(map[string]uint64),
			}
			m.Store = f.opener(t, m.dir)
			defer func() {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			}()
			for range steps {
				if m.step(); t.Failed() {
					return
				}
			}
		})
	}
}

type modelRun struct {
	*fixture

	memory *Memory
	random *rand.Rand
	length map[string]uint64 // the number of a saga's last turn
}

func (m *modelRun) step() {
	switch m.random.IntN(16) {
	case 0:
		if m.random.IntN(4) == 0 {
			m.reopen()
			m.memory = m.memory.Reopen()
		}
	case 1:
		m.compare("load", func(s journal.Store) (any, error) { return s.Load(m.Context(), m.id()) })
	case 2:
		m.compare("get", func(s journal.Store) (any, error) { return s.Get(m.Context(), m.id()) })
	case 3:
		m.compare("open", func(s journal.Store) (any, error) {
			return s.Open(m.Context(), journal.OpenParams{
				After: m.id(), Limit: 1 + m.random.IntN(8), Which: journal.OpenSagas(m.random.IntN(2)),
			})
		})
	case 4:
		m.compare("due", func(s journal.Store) (any, error) { return s.Due(m.Context(), m.time(), 1+m.random.IntN(8)) })
	case 5:
		m.compare("turns", func(s journal.Store) (any, error) {
			return s.Turns(m.Context(), m.id(), m.random.Uint64N(6), 1+m.random.IntN(4))
		})
	case 6, 7, 8:
		m.compare("list", func(s journal.Store) (any, error) { return s.List(m.Context(), m.params()) })
	case 9:
		m.compare("next event", func(s journal.Store) (any, error) {
			event, index, err := s.NextEvent(m.Context(), m.id(), m.awaits(1+m.random.IntN(3)))
			return []any{event, index}, err
		})
	case 10:
		m.compare("events", func(s journal.Store) (any, error) { return s.Events(m.Context(), m.eventsParams()) })
	case 11:
		m.consumeAndPurge()
	default:
		m.compare("append", m.appendTo)
	}
}

// compare makes a call to both stores with the same random numbers.
func (m *modelRun) compare(what string, call func(journal.Store) (any, error)) {
	m.Helper()
	seed := m.random.Uint64()
	m.random = rand.New(rand.NewPCG(seed, 2))
	want, wantErr := call(m.memory)
	m.random = rand.New(rand.NewPCG(seed, 2))
	got, gotErr := call(m.Store)
	if !errors.Is(cause(gotErr), cause(wantErr)) || gotErr == nil && render(got) != render(want) {
		m.Errorf("%s: got %v\n%s\nwant %v\n%s", what, gotErr, render(got), wantErr, render(want))
	}
}

func (m *modelRun) appendTo(s journal.Store) (any, error) {
	var group []*journal.Entry
	in := make(map[string]bool)
	for range 1 + m.random.IntN(6) {
		id := m.id()
		if m.random.IntN(4) == 0 {
			group = append(group, publishing(m.events(1+m.random.IntN(3))...))
			continue
		}
		if id == "" || in[id] {
			continue
		}
		in[id] = true
		turn := m.length[id] + 1
		if m.random.IntN(8) == 0 {
			turn = 1 + m.random.Uint64N(5)
		}
		entry := next(id, turn, nil)
		entry.Time = m.time()
		if turn == 1 || m.random.IntN(3) > 0 {
			entry.Row = m.row(id)
			entry.NewRound = turn > 1 && m.random.IntN(6) == 0
		}
		entry.Events = m.events(max(m.random.IntN(6)-3, 0))
		group = append(group, entry)
	}
	if err := s.Append(m.Context(), group); err != nil {
		return nil, err
	}
	var outcomes []string
	for _, entry := range group {
		slices.Sort(entry.Woken)
		outcomes = append(outcomes,
			fmt.Sprintf("turn %d of %s: %v; woken %q", entry.Turn, entry.Saga, cause(entry.Err), entry.Woken))
		for _, event := range entry.Events {
			outcomes = append(outcomes, fmt.Sprintf("event %s at %d: %v", event.ID, event.Position, cause(event.Err)))
		}
		if entry.Saga != "" && entry.Err == nil && s == m.Store { // compare calls it last
			m.length[entry.Saga] = entry.Turn
		}
	}
	return outcomes, nil
}

// consumeAndPurge makes one of the calls about consumers, purges and event ranges.
func (m *modelRun) consumeAndPurge() {
	switch m.random.IntN(6) {
	case 0:
		given := journal.Consumer{
			Name: fmt.Sprintf("c%d", m.random.IntN(3)), Position: m.random.Uint64N(9),
			Filter: fmt.Sprintf("f%d", m.random.IntN(3)),
		}
		m.compare("consumer", func(s journal.Store) (any, error) {
			return s.Consumer(m.Context(), given)
		})
	case 1:
		m.compare("acknowledge", func(s journal.Store) (any, error) {
			return nil, s.Acknowledge(m.Context(), fmt.Sprintf("c%d", m.random.IntN(3)), m.random.Uint64N(9), "")
		})
	case 2:
		m.compare("event range", func(s journal.Store) (any, error) {
			oldest, newest, err := s.EventRange(m.Context())
			return []any{oldest, newest}, err
		})
	case 3:
		m.compare("purge events", func(s journal.Store) (any, error) {
			return s.PurgeEvents(m.Context(), m.time(), 1+m.random.IntN(10))
		})
	case 4:
		// The limit is greater than the number of sagas, since a store may choose which sagas it purges.
		m.compare("purge", func(s journal.Store) (any, error) {
			return s.Purge(m.Context(), journal.PurgeParams{
				Definitions: []string{m.definition(5), m.definition(5)}, EndedBefore: m.time(), Limit: 1000,
				ExceptPrefix: []string{"", "s1"}[m.random.IntN(2)],
			})
		})
		clear(m.length)
		for id, one := range m.memory.contents.sagas {
			m.length[id] = one.last()
		}
	default:
		m.compare("all events", func(s journal.Store) (any, error) {
			return s.Events(m.Context(), journal.EventsParams{Limit: 1000})
		})
	}
}

// events returns random events. Some of them are stored already.
func (m *modelRun) events(n int) []*journal.Event {
	var events []*journal.Event
	for range n {
		made := event(m.kind(), fmt.Sprint(m.random.IntN(200)), m.subject(), 0)
		made.Source, made.Time, made.StoreTime = "source", m.time(), m.someTime()
		made.Data = fmt.Append(nil, m.random.IntN(2))
		events = append(events, made)
	}
	return events
}

func (m *modelRun) kind() string    { return []string{verified, moved, "acme.None"}[m.random.IntN(3)] }
func (m *modelRun) subject() string { return fmt.Sprintf("c-%d", m.random.IntN(4)) }

func (m *modelRun) awaits(n int) []journal.Await {
	var awaits []journal.Await
	for range n {
		awaits = append(awaits, journal.Await{Type: m.kind(), Subject: m.subject(), After: m.random.Uint64N(120)})
	}
	return awaits
}

func (m *modelRun) eventsParams() journal.EventsParams {
	params := journal.EventsParams{After: m.random.Uint64N(60), Limit: 1 + m.random.IntN(10)}
	if m.random.IntN(2) == 0 {
		params.MaxBytes = m.random.IntN(1000)
	}
	for range m.random.IntN(3) {
		params.Types = append(params.Types, m.kind())
	}
	if m.random.IntN(2) == 0 {
		params.Subject = m.subject()
	}
	return params
}

func (m *modelRun) id() string {
	if n := m.random.IntN(30); n > 0 {
		return fmt.Sprintf("s%d", n)
	}
	return ""
}

func (m *modelRun) time() time.Time {
	if m.random.IntN(4) == 0 {
		return time.Time{}
	}
	return m.someTime()
}

// someTime returns a time that isn't zero.
func (m *modelRun) someTime() time.Time {
	return minute(m.random.IntN(8)).Add(time.Duration(m.random.IntN(3)) * 400 * time.Nanosecond)
}

func (m *modelRun) definition(n int) string { return fmt.Sprintf("b.v1.X/Y%d", m.random.IntN(n)) }

func (m *modelRun) row(id string) *journal.Row {
	r := &journal.Row{
		ID: id, Definition: m.definition(4), State: states[m.random.IntN(len(states))],
		CreateTime: m.time(), UpdateTime: m.time(), EndTime: m.time(), Due: m.time(),
		Revision: m.random.Uint64(),
	}
	if r.Waiting = m.random.IntN(3) == 0; !journal.Final(r.State) {
		if r.Awaits = m.awaits(max(m.random.IntN(4)-1, 0)); r.UpdateTime.IsZero() {
			r.UpdateTime = minute(1)
		}
	}
	if r.State == suspended {
		r.Suspension = reasons[m.random.IntN(len(reasons))]
	}
	if m.random.IntN(2) == 0 {
		r.RequestID = fmt.Sprintf("r-%d", m.random.IntN(9))
	}
	if parent := m.id(); m.random.IntN(3) == 0 && parent != id {
		r.LocalParent = parent
	}
	for range m.random.IntN(3) {
		if r.Labels == nil {
			r.Labels = make(map[string]string)
		}
		r.Labels[fmt.Sprintf("l%d", m.random.IntN(3))] = fmt.Sprintf("v%d", m.random.IntN(3))
	}
	return r
}

func (m *modelRun) params() journal.ListParams {
	params := journal.ListParams{
		Order: journal.Order{By: journal.OrderField(m.random.IntN(2)), Descending: m.random.IntN(2) == 0},
		Limit: 1 + m.random.IntN(10),
	}
	if m.random.IntN(4) > 0 {
		params.Filter = m.filter(3)
	}
	if m.random.IntN(2) == 0 {
		params.After = m.row(m.id())
	}
	return params
}

func (m *modelRun) filter(depth int) *journal.Filter {
	if depth > 0 {
		switch m.random.IntN(6) {
		case 0, 1:
			return node(journal.And, m.filter(depth-1), m.filter(depth-1))
		case 2:
			return node(journal.Or, m.filter(depth-1), m.filter(depth-1), m.filter(depth-1))
		case 3:
			return node(journal.Not, m.filter(depth-1))
		}
	}
	op := comparisons[m.random.IntN(len(comparisons))]
	switch m.random.IntN(7) {
	case 0:
		return leaf(op, journal.FieldID, m.id())
	case 1:
		return leaf(op, journal.FieldDefinition, m.definition(5))
	case 2:
		return timeLeaf(op, journal.FieldCreateTime, m.time())
	case 3:
		return timeLeaf(op, journal.FieldUpdateTime, m.time())
	case 4:
		return labelLeaf(op, fmt.Sprintf("l%d", m.random.IntN(4)), fmt.Sprintf("v%d", m.random.IntN(4)))
	case 5:
		return leaf(comparisons[m.random.IntN(2)], journal.FieldSuspension, "RESTORED")
	default:
		state := states[m.random.IntN(len(states))].String()[len("SAGA_STATE_"):]
		return leaf(comparisons[m.random.IntN(2)], journal.FieldState, state)
	}
}

// cause returns the error of package journal that an error wraps, or the error itself.
func cause(err error) error {
	for _, one := range []error{journal.ErrNotFound, journal.ErrExists, journal.ErrConflict, journal.ErrInvalid} {
		if errors.Is(err, one) {
			return one
		}
	}
	return err
}

// render returns a result as text. Results that mean the same have the same text.
func render(answer any) string {
	switch answer := answer.(type) {
	case *journal.Journal:
		if answer == nil {
			return ""
		}
		return render(&answer.Row) + render(answer.Turns)
	case *journal.Row:
		if answer == nil {
			return ""
		}
		return fmt.Sprintf("%+v\n", *answer)
	case []journal.Turn:
		return lines(answer, func(turn journal.Turn) string { return fmt.Sprintf("%d %q\n", turn.Number, turn.Data) })
	case *journal.Event:
		if answer == nil {
			return ""
		}
		return fmt.Sprintf("%+v\n", *answer)
	case []*journal.Event:
		return lines(answer, func(one *journal.Event) string { return render(one) })
	case []any:
		return lines(answer, render)
	case []*journal.Journal:
		return lines(answer, func(one *journal.Journal) string { return render(one) })
	case []*journal.Row:
		return lines(answer, func(one *journal.Row) string { return render(one) })
	case []journal.Due:
		return lines(answer, func(one journal.Due) string { return fmt.Sprintf("%v\n", one) })
	default:
		return fmt.Sprintf("%v\n", answer)
	}
}

func lines[T any](all []T, line func(T) string) string {
	var text strings.Builder
	for _, one := range all {
		text.WriteString(line(one))
	}
	return text.String()
}
