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

// TestPurgeLeavesNothing purges all sagas, one of which has more turns than a transaction deletes, and checks that
// nothing is left of them.
func TestPurgeLeavesNothing(t *testing.T) {
	store := openAt(t, filepath.Join(t.TempDir(), "sagas.db"))
	defer store.Close()
	for i := range 3 {
		id := fmt.Sprint(i)
		row := &journal.Row{
			ID: id, Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_SUCCEEDED, EndTime: time.Unix(1, 0),
			Labels: map[string]string{"one": id, "two": "x"},
		}
		if err := store.Append(t.Context(), []*journal.Entry{{Saga: id, Turn: 1, Row: row}}); err != nil {
			t.Fatal(err)
		}
	}
	more := fmt.Sprintf(`WITH RECURSIVE n(i) AS (VALUES (2) UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO turns (position, data) SELECT 2 << 24 | i, x'00' FROM n`, purgeTurns+10)
	if err := store.writer.conn.Exec(more); err != nil {
		t.Fatal(err)
	}
	params := journal.PurgeParams{Definitions: []string{"X/Y"}, EndedBefore: time.Unix(2, 0), Limit: 10}
	n, err := store.Purge(t.Context(), params)
	if err != nil || n != 3 {
		t.Errorf("%d sagas were purged, %v; want 3", n, err)
	}
	for _, table := range []string{"sagas", "turns", "labels"} {
		if left, err := queryInt(store.writer.conn, "SELECT count(*) FROM "+table); err != nil || left != 0 {
			t.Errorf("%d %s are left, %v", left, table, err)
		}
	}
}

// TestRememberedAfterOpening tests that an id of a purged saga that may not be used again is known to the next process.
func TestRememberedAfterOpening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	start := func() error {
		entry := &journal.Entry{Saga: "one", Turn: 1, Row: &journal.Row{
			ID: "one", Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_SUCCEEDED, EndTime: time.Unix(1, 0),
		}}
		if err := store.Append(t.Context(), []*journal.Entry{entry}); err != nil {
			t.Fatal(err)
		}
		return entry.Err
	}
	if err := start(); err != nil {
		t.Fatal(err)
	}
	n, err := store.Purge(t.Context(), journal.PurgeParams{
		Definitions: []string{"X/Y"}, EndedBefore: time.Unix(2, 0), Limit: 10,
		Remember: func(string) bool { return true },
	})
	if err != nil || n != 1 {
		t.Fatalf("%d sagas were purged, %v; want 1", n, err)
	}
	for _, when := range []string{"at once", "after opening the store again"} {
		if err := start(); !errors.Is(err, journal.ErrPurged) {
			t.Errorf("%s, a start with the id: %v; want ErrPurged", when, err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		store = openAt(t, path)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}
