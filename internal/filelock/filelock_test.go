package filelock_test

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/treatyhq/treaty/internal/filelock"
)

// A lock of one open file excludes every other open file, also those of this process.
func TestOneAtATime(t *testing.T) {
	dir := t.TempDir()
	busy := filepath.Join(dir, "busy")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			err := filelock.Hold(filepath.Join(dir, "lock"), func() error {
				if err := os.Mkdir(busy, 0o700); err != nil {
					return err
				}
				return os.Remove(busy)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestNoSuchDirectory(t *testing.T) {
	work := func() error { t.Error("it ran without the lock"); return nil }
	if err := filelock.Hold(filepath.Join(t.TempDir(), "missing", "lock"), work); err == nil {
		t.Error("a lock file in a directory that isn't there was locked")
	}
}
