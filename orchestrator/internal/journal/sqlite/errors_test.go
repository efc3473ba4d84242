package sqlite

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestDiagnosesAFullDisk reports errors with much and little space left. SQLite can't grow its index of the write-ahead
// log then, and says only "disk I/O error".
func TestDiagnosesAFullDisk(t *testing.T) {
	for _, test := range []struct {
		name  string
		err   error
		free  uint64
		known bool
		want  bool
	}{
		{"an I/O error with 28 KiB left", sqlite3.IOERR_SHMSIZE, 28 << 10, true, true},
		{"an I/O error with space", sqlite3.IOERR_SHMSIZE, 1 << 30, true, false},
		{"an I/O error, and nobody knows the space", sqlite3.IOERR_WRITE, 0, false, false},
		{"another I/O error on a full disk", sqlite3.IOERR_FSYNC, 0, true, false},
		{"another error on a full disk", sqlite3.BUSY, 0, true, false},
	} {
		err := fmt.Errorf("append to the store: %w", test.err)
		if got := lacksSpace(err, func() (uint64, bool) { return test.free, test.known }); got != test.want {
			t.Errorf("%s: lacks space: %v, want %v", test.name, got, test.want)
		}
	}
	// On a file system without a byte to spare, which Linux has for everybody.
	if _, known := freeBytes("/proc"); known {
		err := explain("append to the store", "/proc/treaty.db", sqlite3.IOERR_SHMSIZE)
		if !errors.Is(err, journal.ErrFull) {
			t.Errorf("got %v, want %v", err, journal.ErrFull)
		}
	}
	if free, known := freeBytes(t.TempDir()); known && free == 0 {
		t.Error("there is no space for tests")
	}
}
