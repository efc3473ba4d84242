package journaltest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/journal"
)

// model makes random calls to the store and to a Memory, and compares every answer.
func model(f *fixture) {
	const runs, steps = 6, 150
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
	length map[string]uint64 // how many turns a saga has
}

func (m *modelRun) step() {
	switch m.random.IntN(12) {
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
			return s.Open(m.Context(), journal.OpenParams{After: m.id(), Limit: 1 + m.random.IntN(8)})
		})
	case 4:
		m.compare("due", func(s journal.Store) (any, error) { return s.Due(m.Context(), m.time(), 1+m.random.IntN(8)) })
	case 5:
		m.compare("turns", func(s journal.Store) (any, error) {
			return s.Turns(m.Context(), m.id(), m.random.Uint64N(6), 1+m.random.IntN(4))
		})
	case 6, 7, 8:
		m.compare("list", func(s journal.Store) (any, error) { return s.List(m.Context(), m.params()) })
	default:
		m.compare("append", m.appendTo)
	}
}

// compare makes one call to both stores, with the same random choices.
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
		if id == "" || in[id] {
			continue
		}
		in[id] = true
		turn := m.length[id] + 1
		if m.random.IntN(8) == 0 {
			turn = 1 + m.random.Uint64N(5)
		}
		entry := next(id, turn, nil)
		if turn == 1 || m.random.IntN(3) > 0 {
			entry.Row = m.row(id)
		}
		group = append(group, entry)
	}
	if err := s.Append(m.Context(), group); err != nil {
		return nil, err
	}
	var outcomes []string
	for _, entry := range group {
		outcomes = append(outcomes, fmt.Sprintf("turn %d of %s: %v", entry.Turn, entry.Saga, cause(entry.Err)))
		if entry.Err == nil && s == m.Store { // the second one to be called
			m.length[entry.Saga] = entry.Turn
		}
	}
	return outcomes, nil
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
	return minute(m.random.IntN(8)).Add(time.Duration(m.random.IntN(3)) * 400 * time.Nanosecond)
}

func (m *modelRun) row(id string) *journal.Row {
	r := &journal.Row{
		ID: id, Definition: fmt.Sprintf("b.v1.X/Y%d", m.random.IntN(4)), State: states[m.random.IntN(len(states))],
		CreateTime: m.time(), UpdateTime: m.time(), EndTime: m.time(), Due: m.time(),
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
	switch m.random.IntN(6) {
	case 0:
		return leaf(op, journal.FieldID, m.id())
	case 1:
		return leaf(op, journal.FieldDefinition, fmt.Sprintf("b.v1.X/Y%d", m.random.IntN(5)))
	case 2:
		return timeLeaf(op, journal.FieldCreateTime, m.time())
	case 3:
		return timeLeaf(op, journal.FieldUpdateTime, m.time())
	case 4:
		return labelLeaf(op, fmt.Sprintf("l%d", m.random.IntN(4)), fmt.Sprintf("v%d", m.random.IntN(4)))
	default:
		return leaf(comparisons[m.random.IntN(2)], journal.FieldState, states[m.random.IntN(len(states))].String()[len("SAGA_STATE_"):])
	}
}

// cause is which of the interface's errors an error is.
func cause(err error) error {
	for _, one := range []error{journal.ErrNotFound, journal.ErrExists, journal.ErrConflict, journal.ErrInvalid} {
		if errors.Is(err, one) {
			return one
		}
	}
	return err
}

// render writes an answer so that two which mean the same read the same.
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
