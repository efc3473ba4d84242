package sqlite

import (
	"path/filepath"
	"testing"

	"github.com/ncruces/go-sqlite3/vfs"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestFramesAreWrittenTogether checks that a transaction of many pages is one write and one sync of the log.
func TestFramesAreWrittenTogether(t *testing.T) {
	d, option := newDisk(t)
	store, err := openFile(t.Context(), filepath.Join(t.TempDir(), "sagas.db"), option)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	l := newLedger(1)
	appendGroup := func() {
		group := []*journal.Entry{}
		for len(group) == 0 {
			group = l.group()
		}
		if err := store.Append(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		if err := l.acknowledge(group); err != nil {
			t.Fatal(err)
		}
	}
	appendGroup() // begins the log
	counts := make(map[string]int)
	d.mu.Lock()
	d.fault = func(o operation) fault {
		counts[o.kind+o.suffix]++
		return fault{}
	}
	d.mu.Unlock()
	const groups = 20
	for range groups {
		appendGroup()
	}
	d.mu.Lock()
	d.fault = nil
	d.mu.Unlock()
	if counts["write-wal"] != groups || counts["sync-wal"] != groups || len(counts) != 2 {
		t.Errorf("%d groups made %v, want a write and a sync of the log for each", groups, counts)
	}
	if err := l.audit(t, store, nil); err != nil {
		t.Error(err)
	}
}

// TestLogFile compares a log with a file that writes everything at once, as another connection sees them: after a frame
// that ends a transaction, and after a sync.
func TestLogFile(t *testing.T) {
	// One letter is an operation on both: h is a header with more to follow, e one that ends a transaction, p a page, o
	// a header in the middle of the log, r a read, b the beginning of a new log, t a truncation, s a sync.
	for _, operations := range []string{
		"bhpep", "bhphphpep", "bep", "bhpo", "bhphpobhpep", "bhprhpep", "bhptbep", "bhphs", "hpep", "bhpb", "bepoos",
		"bpp", "bhhp", "beep", "bhps", "o", "p", "e", "bhpoep",
	} {
		t.Run(operations, func(t *testing.T) { compareLogs(t, []byte(operations)) })
	}
}

// FuzzLogFile is TestLogFile with any operations.
func FuzzLogFile(f *testing.F) {
	f.Add([]byte("bhphpep"))
	f.Fuzz(func(t *testing.T, operations []byte) {
		if len(operations) <= 200 {
			compareLogs(t, operations)
		}
	})
}

func compareLogs(t *testing.T, operations []byte) {
	t.Helper()
	held, plain := new(memoryFile), new(memoryFile)
	log := &logFile{file: file{File: held}}
	end := int64(0)
	for i, operation := range operations {
		var data []byte
		offset := end
		switch operation {
		case 'h':
			data = make([]byte, frameHeader)
			data[0] = byte(i)
		case 'e':
			data = make([]byte, frameHeader)
			data[0], data[7] = byte(i), 1
		case 'p':
			data = make([]byte, 4096)
			data[0] = byte(i)
		case 'o':
			data, offset = make([]byte, frameHeader), 32
			data[0] = byte(i)
		case 'b':
			data, offset = make([]byte, 32), 0
			data[0] = byte(i)
		case 'r':
			_, _ = log.ReadAt(make([]byte, 8), 0)
			continue
		case 't':
			if log.Truncate(0) != nil || plain.Truncate(0) != nil {
				t.Fatal("truncating failed")
			}
			end = 0
			continue
		default:
			if err := log.Sync(0); err != nil {
				t.Fatal(err)
			}
			if string(held.data) != string(plain.data) {
				t.Fatalf("after operation %d of %q, a sync, the logs differ", i, operations)
			}
			continue
		}
		if n, err := log.WriteAt(data, offset); n != len(data) || err != nil {
			t.Fatal(n, err)
		}
		if _, err := plain.WriteAt(data, offset); err != nil {
			t.Fatal(err)
		}
		end = offset + int64(len(data))
		ends := operation == 'p' && i > 0 && operations[i-1] == 'e' // of a transaction
		if (ends || operation == 'b') && string(held.data) != string(plain.data) {
			t.Fatalf("after operation %d of %q, which ends a transaction, the logs differ", i, operations)
		}
	}
	if size, err := log.Size(); err != nil || size != int64(len(plain.data)) {
		t.Fatalf("after all of %q, the size is %d, %v", operations, size, err)
	}
	if string(held.data) != string(plain.data) {
		t.Fatalf("after all of %q, the logs differ", operations)
	}
}

// memoryFile is a file in memory. It has what a logFile needs.
type memoryFile struct {
	vfs.File

	data []byte
}

func (f *memoryFile) WriteAt(p []byte, offset int64) (int, error) {
	f.data = change{offset, p}.apply(f.data)
	return len(p), nil
}

func (f *memoryFile) ReadAt(p []byte, offset int64) (int, error) {
	return copy(p, f.data[min(offset, int64(len(f.data))):]), nil
}

func (f *memoryFile) Truncate(size int64) error {
	f.data = change{offset: size}.apply(f.data)
	return nil
}

func (f *memoryFile) Size() (int64, error) { return int64(len(f.data)), nil }

func (f *memoryFile) Sync(vfs.SyncFlag) error { return nil }
