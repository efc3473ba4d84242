package sqlite

import (
	"errors"
	"path/filepath"
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestEngineFails makes the SQLite engine panic while it writes. The store says so, and has all that it has
// acknowledged once it is opened again.
func TestEngineFails(t *testing.T) {
	disk, opts := newDisk(t)
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path, opts)
	start := func(id string) error {
		row := &journal.Row{ID: id, Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_RUNNING}
		return store.Append(t.Context(), []*journal.Entry{{Saga: id, Turn: 1, Row: row}})
	}
	if err := start("before"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-store.Failed():
		t.Fatal("the store says that its engine has failed")
	default:
	}
	disk.mu.Lock()
	disk.fault = func(op operation) fault {
		if op.kind == "write" {
			panic("out of memory")
		}
		return fault{}
	}
	disk.mu.Unlock()
	if err := start("one"); !errors.Is(err, journal.ErrBroken) {
		t.Errorf("when the engine fails: %v", err)
	}
	<-store.Failed()
	disk.mu.Lock()
	disk.fault = nil
	disk.mu.Unlock()
	if err := start("two"); !errors.Is(err, journal.ErrBroken) {
		t.Errorf("after the engine has failed: %v", err)
	}
	if _, err := store.Get(t.Context(), "before"); err != nil {
		t.Errorf("reading after the engine has failed: %v", err)
	}
	if err := store.Close(); !errors.Is(err, journal.ErrBroken) {
		t.Errorf("closing the store: %v", err)
	}

	store = openAt(t, path, opts)
	defer store.Close()
	for id, want := range map[string]error{"before": nil, "two": journal.ErrNotFound} {
		if _, err := store.Get(t.Context(), id); !errors.Is(err, want) {
			t.Errorf("saga %s of the store that was opened again: %v", id, err)
		}
	}
	if err := start("after"); err != nil {
		t.Errorf("writing to the store that was opened again: %v", err)
	}
	if err := store.check(t.Context()); err != nil {
		t.Error(err)
	}
}
