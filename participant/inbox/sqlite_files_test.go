//go:build unix

package inbox_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/treatyhq/treaty/participant/inbox"
)

// TestFilesArePrivate creates a database while the process lets everybody read what it creates. Nobody else can read
// its files, also after they were deleted and created again. A file that exists keeps its mode.
func TestFilesArePrivate(t *testing.T) {
	before := syscall.Umask(0)
	t.Cleanup(func() { syscall.Umask(before) })
	for name, test := range map[string]struct {
		exists bool
		want   os.FileMode
	}{"new": {false, 0o600}, "existing": {true, 0o640}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a service's database.db")
			if test.exists {
				if err := os.WriteFile(path, nil, test.want); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(path))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := inbox.OpenSQLite(context.Background(), db, inbox.Options{}); err != nil {
					t.Fatal(err)
				}
				if _, err := db.Exec(`CREATE TABLE IF NOT EXISTS customers (name TEXT)`); err != nil {
					t.Fatal(err)
				}
				for _, file := range []string{path, path + "-wal", path + "-shm"} {
					info, err := os.Stat(file)
					if err != nil {
						t.Fatal(err)
					}
					if info.Mode() != test.want {
						t.Errorf("%s has the mode %v, want %v", filepath.Base(file), info.Mode(), test.want)
					}
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
