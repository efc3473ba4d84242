package sqlite

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestWaitingSagasLeaveTheCache checks that the writer caches no sagas that wait or have ended.
func TestWaitingSagasLeaveTheCache(t *testing.T) {
	store := openAt(t, filepath.Join(t.TempDir(), "sagas.db"))
	defer store.Close()
	row := func(i int, state treatyv1.SagaState, waiting bool) *journal.Row {
		return &journal.Row{ID: fmt.Sprint(i), State: state, Waiting: waiting, UpdateTime: time.Unix(1, 0)}
	}
	write := func(turn uint64, row func(i int) *journal.Row, want int) {
		t.Helper()
		var group []*journal.Entry
		for i := range 100 {
			group = append(group, &journal.Entry{Saga: fmt.Sprint(i), Turn: turn, Row: row(i)})
		}
		if err := store.Append(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		for _, entry := range group {
			if entry.Err != nil {
				t.Fatal(entry.Err)
			}
		}
		if got := len(store.writer.sagas); got != want {
			t.Errorf("after turn %d, %d sagas are cached, want %d", turn, got, want)
		}
	}
	const running, succeeded = treatyv1.SagaState_SAGA_STATE_RUNNING, treatyv1.SagaState_SAGA_STATE_SUCCEEDED
	write(1, func(i int) *journal.Row { return row(i, running, i < 50) }, 50)
	write(2, func(i int) *journal.Row { return row(i, running, true) }, 0)
	write(3, func(int) *journal.Row { return nil }, 0)
	write(4, func(i int) *journal.Row { return row(i, running, false) }, 100)
	write(5, func(int) *journal.Row { return nil }, 100)
	write(6, func(i int) *journal.Row { return row(i, succeeded, false) }, 0)
}

// TestOpenWithDamage opens the sagas next to one that can't be read.
func TestOpenWithDamage(t *testing.T) {
	for name, test := range map[string]struct {
		sql string
		row bool // whether the row is damaged, too
	}{
		"a turn is missing":         {"DELETE FROM turns WHERE position = (2 << 24 | 2)", false},
		"the first turn is missing": {"DELETE FROM turns WHERE position = (2 << 24 | 1)", false},
		"all turns are missing":     {"DELETE FROM turns WHERE position >> 24 = 2", false},
		"a wrong first turn":        {"UPDATE sagas SET first_turn = 2 WHERE key = 2", false},
		"invalid labels":            {"UPDATE sagas SET labels = '{' WHERE key = 2", true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "sagas.db")
			store := openAt(t, path)
			for turn := range uint64(3) {
				for i := range 3 {
					id := fmt.Sprint(i)
					row := &journal.Row{ID: id, Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_RUNNING}
					entry := &journal.Entry{Saga: id, Turn: turn + 1, Row: row}
					if err := store.Append(t.Context(), []*journal.Entry{entry}); err != nil || entry.Err != nil {
						t.Fatal(err, entry.Err)
					}
				}
			}
			if err := store.Close(); err != nil {
				t.Fatal(err)
			}
			edit(t, path, test.sql)
			store = openAt(t, path)
			defer store.Close()
			open, err := store.Open(t.Context(), journal.OpenParams{Limit: 10})
			if err != nil || len(open) != 3 {
				t.Fatalf("%d sagas are open, %v; want 3", len(open), err)
			}
			for i, one := range open {
				damaged := i == 1
				if one.Row.ID != fmt.Sprint(i) || one.Row.Definition != "X/Y" ||
					errors.Is(one.Err, journal.ErrCorrupt) != damaged || (one.Err != nil) != damaged ||
					(len(one.Turns) == 3) == damaged {
					t.Errorf("saga %d: %+v", i, one)
				}
			}
			if _, err := store.Load(t.Context(), "1"); !errors.Is(err, journal.ErrCorrupt) {
				t.Errorf("load: %v", err)
			}
			if err := store.check(t.Context()); !test.row && !errors.Is(err, journal.ErrCorrupt) {
				t.Errorf("check: %v", err)
			}
		})
	}
}
