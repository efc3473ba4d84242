//go:build unix

package sqlite

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestFilesArePrivate writes a store, a backup and a copy of it that anybody can read, and restores and opens that,
// while the process lets everybody read what it creates. Nobody else can read their files.
func TestFilesArePrivate(t *testing.T) {
	before := syscall.Umask(0)
	t.Cleanup(func() { syscall.Umask(before) })
	path, restored := filepath.Join(t.TempDir(), "sagas.db"), filepath.Join(t.TempDir(), "sagas.db")
	used := func(path string) {
		t.Helper()
		store := openAt(t, path)
		event := &journal.Event{Source: "a", ID: "1", Type: "T", StoreTime: time.Unix(1, 0)}
		if err := store.Append(t.Context(), []*journal.Entry{{Events: []*journal.Event{event}}}); err != nil {
			t.Fatal(err)
		}
		arePrivate(t, path, 4)
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	used(path)
	used(path)
	copied := path + ".copy"
	if _, err := Backup(t.Context(), path, copied); err != nil {
		t.Fatal(err)
	}
	arePrivate(t, path, 3)
	content, err := os.ReadFile(copied)
	if err == nil {
		err = os.WriteFile(restored, content, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), restored, journal.RestoreParams{}); err != nil {
		t.Fatal(err)
	}
	arePrivate(t, restored, 2)
	if err := os.Chmod(restored, 0o664); err != nil {
		t.Fatal(err)
	}
	used(restored)
}

// arePrivate checks the modes of all files in the directory of a store, of which there are as many as want, at least.
func arePrivate(t *testing.T, path string, want int) {
	t.Helper()
	files, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(files) < want {
		t.Errorf("the files are %v, %v; want %d or more", files, err, want)
	}
	for _, file := range files {
		info, err := file.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != fs.FileMode(0o600) {
			t.Errorf("%s has the mode %v, want 0600", file.Name(), info.Mode())
		}
	}
}
