package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
)

func TestStore(t *testing.T) {
	journaltest.Exercise(t, func(t *testing.T, dir string) journal.Store {
		return openAt(t, filepath.Join(dir, "sagas.db"))
	})
}

// openAt opens a store, which the test closes.
func openAt(t testing.TB, path string, opts ...Option) *Store {
	t.Helper()
	store, err := Open(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return store
}
