package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestFileIsGone deletes or replaces a file of an open store. The store notices it, and reads and writes nothing more.
func TestFileIsGone(t *testing.T) {
	remove := os.Remove
	replace := func(path string) error {
		if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	}
	for _, test := range []struct {
		name, suffix, text string
		do                 func(path string) error
	}{
		{"deleted", "", "was deleted or moved", remove},
		{"moved", "", "was deleted or moved", func(path string) error { return os.Rename(path, path+".old") }},
		{"replaced", "", "was replaced", replace},
		{"log deleted", "-wal", "was deleted or moved", remove},
		{"log replaced", "-wal", "was replaced", replace},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "sagas.db")
			store := openAt(t, path)
			l := newLedger(1)
			if err := store.Append(t.Context(), l.group()); err != nil {
				t.Fatal(err)
			}
			if err := test.do(path + test.suffix); err != nil {
				t.Fatal(err)
			}
			<-store.Gone()
			err := store.Append(t.Context(), l.group())
			if !errors.Is(err, journal.ErrGone) || !strings.Contains(err.Error(), path+test.suffix+" "+test.text) {
				t.Errorf("appending: %v", err)
			}
			if _, err := store.Load(t.Context(), "s1"); !errors.Is(err, journal.ErrGone) {
				t.Errorf("reading: %v", err)
			}
			if err := store.Close(); !errors.Is(err, journal.ErrGone) {
				t.Errorf("closing: %v", err)
			}
		})
	}
}

// TestFileIsGoneAtTheEnd deletes the file right before the store is closed, which says so.
func TestFileIsGoneAtTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); !errors.Is(err, journal.ErrGone) {
		t.Errorf("closing: %v", err)
	}
}
