package engine_test

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/journal"
)

// memory is a store without a disk, for tests. It passes the same suite as the others.
type memory struct {
	mu    sync.Mutex
	sagas map[string]*journal.Journal
}

// newMemory returns an empty store.
func newMemory() *memory { return &memory{sagas: make(map[string]*journal.Journal)} }

func (m *memory) Append(_ context.Context, group []*journal.Entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range group {
		s := m.sagas[e.Saga]
		e.Err = nil
		switch {
		case e.Turn == 1 && s != nil:
			e.Err = journal.ErrExists
			continue
		case e.Turn == 1:
			s = &journal.Journal{}
			m.sagas[e.Saga] = s
		case s == nil || uint64(len(s.Turns))+1 != e.Turn:
			e.Err = journal.ErrConflict
			continue
		}
		s.Turns = append(s.Turns, journal.Turn{Number: e.Turn, Data: slices.Clone(e.Data)})
		if e.Row != nil {
			s.Row = *e.Row
		}
	}
	return nil
}

func (m *memory) copyOf(s *journal.Journal) *journal.Journal {
	return &journal.Journal{Row: s.Row, Turns: slices.Clone(s.Turns)}
}

func (m *memory) Load(_ context.Context, id string) (*journal.Journal, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sagas[id]; s != nil {
		return m.copyOf(s), nil
	}
	return nil, journal.ErrNotFound
}

func (m *memory) Open(_ context.Context, after string, limit int) ([]*journal.Journal, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var open []*journal.Journal
	for id, s := range m.sagas {
		if id > after && (s.Row.State == treatyv1.SagaState_SAGA_STATE_RUNNING || s.Row.State == treatyv1.SagaState_SAGA_STATE_COMPENSATING) {
			open = append(open, m.copyOf(s))
		}
	}
	slices.SortFunc(open, func(a, b *journal.Journal) int { return cmp.Compare(a.Row.ID, b.Row.ID) })
	return open[:min(limit, len(open))], nil
}

func (m *memory) Due(_ context.Context, until time.Time, limit int) ([]journal.Due, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var due []journal.Due
	for id, s := range m.sagas {
		if s.Row.EndTime.IsZero() && !s.Row.Due.IsZero() && !s.Row.Due.After(until) {
			due = append(due, journal.Due{Saga: id, Time: s.Row.Due})
		}
	}
	slices.SortFunc(due, func(a, b journal.Due) int { return a.Time.Compare(b.Time) })
	return due[:min(limit, len(due))], nil
}

func (m *memory) Get(_ context.Context, id string) (*journal.Row, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sagas[id]; s != nil {
		row := s.Row
		return &row, nil
	}
	return nil, journal.ErrNotFound
}

func (m *memory) List(context.Context, journal.ListParams) ([]*journal.Row, error) { return nil, nil }

func (m *memory) Turns(_ context.Context, id string, after uint64, limit int) ([]journal.Turn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sagas[id]
	if s == nil {
		return nil, journal.ErrNotFound
	}
	rest := s.Turns[min(after, uint64(len(s.Turns))):]
	return slices.Clone(rest[:min(limit, len(rest))]), nil
}

func (m *memory) Epoch() uint64 { return 1 }

func (m *memory) Close() error { return nil }
