package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
)

func TestStore(t *testing.T) {
	journaltest.Exercise(t, func(t *testing.T, dir string) journaltest.Store {
		return openAt(t, filepath.Join(dir, "sagas.db"))
	})
}

// openAt opens a store. The caller closes it.
func openAt(t testing.TB, path string, opts ...options) *Store {
	t.Helper()
	opts = append(opts, options{vfs: filesystemName})
	store, err := openFile(t.Context(), path, opts[0])
	if err != nil {
		t.Fatal(err)
	}
	return store
}
