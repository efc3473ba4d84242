package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// written makes a store with something in it, closed, and returns its path and what it holds.
func written(t *testing.T) (string, *ledger) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	l := newLedger(7)
	for range 20 {
		group := l.group()
		if err := store.Append(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		if err := l.acknowledge(group); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return path, l
}

// edit runs SQL on a file as another program would.
func edit(t *testing.T, path, sql string) {
	t.Helper()
	conn, err := sqlite3.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Exec(sql); err != nil {
		t.Fatal(err)
	}
}

// TestOpenRefuses opens what isn't a store, or isn't one that can be used. The error tells which file, and what is wrong with it; the file
// stays as it was.
func TestOpenRefuses(t *testing.T) {
	change := func(f func([]byte) []byte) func(*testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			path, _ := written(t)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f(data), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	content := func(text string) func(*testing.T) string {
		return change(func([]byte) []byte { return []byte(text) })
	}
	query := func(sql string) func(*testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			path, _ := written(t)
			edit(t, path, sql)
			return path
		}
	}
	for _, test := range []struct {
		name string
		path func(*testing.T) string
		want error  // nil when no sentinel fits
		says string // is in the message
		mend func(t *testing.T, path string)
	}{
		{"garbage", content(strings.Repeat("all work and no play ", 500)), journal.ErrCorrupt, "it is not a SQLite file", nil},
		{"short garbage", content("hello"), journal.ErrCorrupt, "it ends after 5 bytes", nil},
		{"cut in the header", change(func(data []byte) []byte { return data[:60] }), journal.ErrCorrupt, "it ends after 60 bytes", nil},
		{"cut behind the header", change(func(data []byte) []byte { return data[:200] }), journal.ErrCorrupt, "backup", nil},
		{"first page overwritten", change(func(data []byte) []byte {
			copy(data[100:4096], strings.Repeat("x", 4096))
			return data
		}), journal.ErrCorrupt, "backup", nil},
		{"another program's", change(func(data []byte) []byte {
			binary.BigEndian.PutUint32(data[headerApplicationID:], 0x1234)
			return data
		}), nil, "belongs to another program (application id 0x1234", nil},
		{"another program's without an id", func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "other.db")
			edit(t, path, "CREATE TABLE theirs (x)")
			return path
		}, nil, "belongs to another program", nil},
		{"newer", query(fmt.Sprintf("PRAGMA user_version = %d", len(migrations)+1)), journal.ErrVersion, fmt.Sprintf("version %d, this program knows %d", len(migrations)+1, len(migrations)), func(t *testing.T, path string) {
			t.Helper()
			edit(t, path, fmt.Sprintf("PRAGMA user_version = %d", len(migrations)))
		}},
		{"no epoch", query("DELETE FROM meta"), journal.ErrCorrupt, "there is no epoch", func(t *testing.T, path string) {
			t.Helper()
			edit(t, path, "INSERT INTO meta VALUES ('epoch', 7)")
		}},
		{"directory", func(t *testing.T) string { t.Helper(); return t.TempDir() }, nil, "this is a directory; name a file in it", nil},
		{"missing directory", func(t *testing.T) string { t.Helper(); return filepath.Join(t.TempDir(), "not", "there.db") }, fs.ErrNotExist, "its directory doesn't exist; create it", nil},
		{"socket", func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "socket")
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
			if err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { _ = listener.Close() }) // of no interest here
			return path
		}, nil, "not a regular file", nil},
		{"no path", func(*testing.T) string { return "" }, nil, "the path is empty", nil},
		{"long path", func(t *testing.T) string {
			t.Helper()
			dir := filepath.Join(t.TempDir(), strings.Repeat(strings.Repeat("x", 200)+"/", 5))
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			return filepath.Join(dir, "sagas.db")
		}, nil, "1000 are allowed", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := test.path(t)
			before, _ := os.ReadFile(path)
			store, err := Open(t.Context(), path)
			if err == nil {
				_ = store.Close() // it should not be open
				t.Fatal("it was opened")
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("the error %q doesn't name the file", err)
			}
			if !strings.Contains(err.Error(), test.says) {
				t.Errorf("the error %q doesn't say %q", err, test.says)
			}
			after, _ := os.ReadFile(path)
			if string(before) != string(after) {
				t.Error("the file was changed")
			}
			if test.mend != nil {
				// The lock was given back.
				test.mend(t, path)
				if err := openAt(t, path).Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestOpenEmptyFile makes a store of a file that somebody has created, as of one that isn't there.
func TestOpenEmptyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	store := openAt(t, path)
	defer store.Close()
	if version, err := queryInt(store.writer.conn, "PRAGMA user_version"); err != nil || version != int64(len(migrations)) {
		t.Errorf("the schema has version %d, %v", version, err)
	}
	if id, err := queryInt(store.writer.conn, "PRAGMA application_id"); err != nil || id != applicationID {
		t.Errorf("the file belongs to %#x, %v", id, err)
	}
	if err := newLedger(1).audit(t, store, nil); err != nil {
		t.Error(err)
	}
}

// TestOpenReadOnly says so for a file, and for a directory, that may not be written.
func TestOpenReadOnly(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everything")
	}
	path, l := written(t)
	for name, mode := range map[string]fs.FileMode{path: 0o400, filepath.Dir(path): 0o500} {
		was, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path); !errors.Is(err, journal.ErrReadOnly) {
			t.Errorf("with %s read-only: %v", name, err)
		}
		if err := os.Chmod(name, was.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	store := openAt(t, path)
	defer store.Close()
	if err := l.audit(t, store, nil); err != nil {
		t.Error(err)
	}
}

func TestOpenEndedContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := filepath.Join(t.TempDir(), "sagas.db")
	if _, err := Open(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := openAt(t, path).Close(); err != nil {
		t.Error(err)
	}
}

// TestCheck finds damage that a start doesn't look for.
func TestCheck(t *testing.T) {
	for name, sql := range map[string]string{
		"a turn is missing":       "DELETE FROM turns WHERE position = (1 << 24 | 1)",
		"all turns are missing":   "DELETE FROM turns WHERE position >> 24 = 1",
		"labels without saga":     "INSERT INTO labels VALUES ('label', 'value', 1 << 30)",
		"awaits without saga":     "INSERT INTO awaits VALUES (1 << 30, 0, 1, 's', 0)",
		"event without type":      "INSERT INTO events VALUES (1 << 30, 'a', 'b', 99, 's', 0, 0, x'')",
		"turns without saga":      "DELETE FROM sagas WHERE key = 2",
		"definition is missing":   "DELETE FROM definitions WHERE key = (SELECT definition FROM sagas WHERE key = 1)",
		"an index doesn't fit":    "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'state = 5', 'state = 4') WHERE name = 'sagas_compensated'",
		"value of the wrong type": "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, 'due INTEGER', 'due TEXT') WHERE name = 'sagas'",
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := written(t)
			edit(t, path, "UPDATE sagas SET due = 5 WHERE key = 1")
			edit(t, path, sql)
			store := openAt(t, path)
			defer store.Close()
			if err := store.Check(t.Context()); !errors.Is(err, journal.ErrCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestMissingTurn is noticed by whoever reads the saga.
func TestMissingTurn(t *testing.T) {
	path, l := written(t)
	longest := slices.MaxFunc(slices.Collect(keys(l)), func(a, b string) int { return len(l.turns[a]) - len(l.turns[b]) })
	edit(t, path, fmt.Sprintf("DELETE FROM turns WHERE position = (SELECT key << 24 | 1 FROM sagas WHERE id = '%s')", longest))
	store := openAt(t, path)
	defer store.Close()
	if _, err := store.Load(t.Context(), longest); !errors.Is(err, journal.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func keys(l *ledger) func(func(string) bool) {
	return func(yield func(string) bool) {
		for id := range l.turns {
			if !yield(id) {
				return
			}
		}
	}
}

// TestReadByAnotherProgram looks at the file with a connection of its own, as the sqlite3 shell does, while the store writes. Neither waits
// for the other, and the views tell what there is.
func TestReadByAnotherProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	defer store.Close()
	l := newLedger(3)
	other, err := sqlite3.OpenFlags(path, sqlite3.OPEN_READONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	count := func(sql string) int64 {
		t.Helper()
		n, err := queryInt(other, sql)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	turns := 0
	for range 20 {
		if err := other.Exec("BEGIN"); err != nil {
			t.Fatal(err)
		}
		if n := count("SELECT count(*) FROM saga_turns"); n != int64(turns) {
			t.Fatalf("%d turns are seen, %d were written", n, turns)
		}
		group := l.group() // written while the other reads
		if err := store.Append(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		if n := count("SELECT count(*) FROM saga_turns"); n != int64(turns) {
			t.Fatalf("within one transaction %d turns are seen, then %d", turns, n)
		}
		if err := other.Exec("COMMIT"); err != nil {
			t.Fatal(err)
		}
		if err := l.acknowledge(group); err != nil {
			t.Fatal(err)
		}
		turns += len(group)
	}
	if n := count("SELECT count(*) FROM saga_list WHERE name LIKE 'sagas/s%' AND state IN ('RUNNING', 'COMPENSATING', 'SUSPENDED', 'SUCCEEDED', 'COMPENSATED')"); n != int64(len(l.turns)) {
		t.Errorf("%d sagas are listed, want %d", n, len(l.turns))
	}
	if n := count("SELECT count(*) FROM saga_events WHERE type = 'T' AND store_time = '1970-01-01T00:00:01.000Z'"); n != int64(len(l.events)) || n == 0 {
		t.Errorf("%d events are listed, want %d", n, len(l.events))
	}
	if n := count("SELECT count(*) FROM saga_list WHERE waiting = 'no' AND awaits IS NULL"); n != int64(len(l.turns)) {
		t.Errorf("%d sagas are listed as not waiting, want %d", n, len(l.turns))
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.audit(t, store, nil); err != nil {
		t.Error(err)
	}
}
