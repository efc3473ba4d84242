package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// writeStore creates a store with some sagas, closes it, and returns its path and contents.
func writeStore(t *testing.T) (string, *ledger) {
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

// edit runs SQL on a file with another connection.
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

// TestOpenInvalid opens files that aren't stores, and stores that can't be used. The error names the file and the
// cause, and the file isn't changed.
func TestOpenInvalid(t *testing.T) {
	change := func(f func([]byte) []byte) func(*testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			path, _ := writeStore(t)
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
			path, _ := writeStore(t)
			edit(t, path, sql)
			return path
		}
	}
	version := func(n int) string { return fmt.Sprintf("PRAGMA user_version = %d", n) }
	inDir := func(name string) func(*testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			return filepath.Join(t.TempDir(), name)
		}
	}
	for _, test := range []struct {
		name   string
		path   func(*testing.T) string
		want   error  // nil if there is no such sentinel
		text   string // in the message
		repair func(t *testing.T, path string)
	}{
		{"garbage", content(strings.Repeat("garbage ", 500)), journal.ErrCorrupt, "isn't a SQLite file", nil},
		{"short garbage", content("hello"), journal.ErrCorrupt, "it ends after 5 bytes", nil},
		{"cut in the header", change(func(data []byte) []byte { return data[:60] }),
			journal.ErrCorrupt, "it ends after 60 bytes", nil},
		{"cut after the header", change(func(data []byte) []byte { return data[:200] }),
			journal.ErrCorrupt, "backup", nil},
		{"first page overwritten", change(func(data []byte) []byte {
			copy(data[100:4096], strings.Repeat("x", 4096))
			return data
		}), journal.ErrCorrupt, "backup", nil},
		{"of another program", change(func(data []byte) []byte {
			binary.BigEndian.PutUint32(data[headerApplicationID:], 0x1234)
			return data
		}), nil, "belongs to another program (application id 0x1234", nil},
		{"of another program, without an id", func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "other.db")
			edit(t, path, "CREATE TABLE theirs (x)")
			return path
		}, nil, "belongs to another program", nil},
		{
			"newer", query(version(len(migrations) + 1)), journal.ErrVersion,
			fmt.Sprintf("version %d, this program supports %d", len(migrations)+1, len(migrations)),
			func(t *testing.T, path string) {
				t.Helper()
				edit(t, path, version(len(migrations)))
			},
		},
		{
			"no epoch", query("DELETE FROM meta"), journal.ErrCorrupt, "the epoch is missing",
			func(t *testing.T, path string) {
				t.Helper()
				edit(t, path, "INSERT INTO meta VALUES ('epoch', 7)")
			},
		},
		{"directory", inDir(""), nil, "this is a directory; name a file in it", nil},
		{"missing directory", inDir("not/there.db"), fs.ErrNotExist, "its directory doesn't exist; create it", nil},
		{"socket", func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "socket")
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
			if err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
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
		}, nil, "the limit is 1000", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := test.path(t)
			before, _ := os.ReadFile(path)
			store, err := Open(t.Context(), path, journal.Opening{})
			if err == nil {
				_ = store.Close()
				t.Fatal("the file was opened")
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("the error %q doesn't name the file", err)
			}
			if !strings.Contains(err.Error(), test.text) {
				t.Errorf("the error %q doesn't say %q", err, test.text)
			}
			after, _ := os.ReadFile(path)
			if string(before) != string(after) {
				t.Error("the file was changed")
			}
			if test.repair != nil {
				// The lock was released.
				test.repair(t, path)
				if err := openAt(t, path).Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestFileIsEmpty opens what is left of a store. It isn't taken for a new store, and nothing is changed.
func TestFileIsEmpty(t *testing.T) {
	for _, test := range []struct {
		name, text string
		leave      func(path string) error
	}{
		{"emptied", "but it was the store", func(path string) error { return os.Truncate(path, 0) }},
		{"deleted", "but it was the store", os.Remove},
		{"emptied, without the lock", "which a store never is", func(path string) error {
			return errors.Join(os.Remove(path+"-lock"), os.Truncate(path, 0))
		}},
		{"only the log is left", "-wal holds what was written last", func(path string) error {
			return errors.Join(os.WriteFile(path+"-wal", []byte("pages"), 0o600), os.Remove(path))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path, _ := writeStore(t)
			if err := test.leave(path); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				_, err := Open(t.Context(), path, journal.Opening{})
				if !errors.Is(err, journal.ErrGone) || !strings.Contains(err.Error(), test.text) {
					t.Fatalf("got %v, want an ErrGone that says %q", err, test.text)
				}
				if !strings.Contains(err.Error(), path) {
					t.Errorf("the error %q doesn't name the file", err)
				}
			}
			// As the errors say, a new store can begin.
			for _, suffix := range []string{"", "-lock", "-wal"} {
				if err := os.Remove(path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
			if err := openAt(t, path).Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestInterruptedCreation opens an empty file that a process left when it ended while it created a store.
func TestInterruptedCreation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	lock, err := acquireLock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(lock.checkNew(path), lock.release(), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	store := openAt(t, path)
	defer store.Close()
	version, err := queryInt(store.writer.conn, "PRAGMA user_version")
	if err != nil || version != int64(len(migrations)) {
		t.Errorf("the schema has version %d, %v", version, err)
	}
	if id, err := queryInt(store.writer.conn, "PRAGMA application_id"); err != nil || id != applicationID {
		t.Errorf("the application id is %#x, %v", id, err)
	}
	if err := newLedger(1).audit(t, store, nil); err != nil {
		t.Error(err)
	}
}

// TestOpenUnwritable opens a file, or a file in a directory, that may not be written.
func TestOpenUnwritable(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can write every file")
	}
	path, l := writeStore(t)
	for name, mode := range map[string]fs.FileMode{path: 0o400, filepath.Dir(path): 0o500} {
		before, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), path, journal.Opening{}); !errors.Is(err, journal.ErrReadOnly) {
			t.Errorf("with %s read-only: %v", name, err)
		}
		if err := os.Chmod(name, before.Mode()); err != nil {
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
	if _, err := Open(ctx, path, journal.Opening{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := openAt(t, path).Close(); err != nil {
		t.Error(err)
	}
}

// TestCheckFindsDamage checks the check of the other tests.
func TestCheckFindsDamage(t *testing.T) {
	const replace = "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, "
	for name, sql := range map[string]string{
		"a turn is missing":       "DELETE FROM turns WHERE position = (1 << 24 | 1)",
		"all turns are missing":   "DELETE FROM turns WHERE position >> 24 = 1",
		"labels without saga":     "INSERT INTO labels VALUES ('label', 'value', 1 << 30)",
		"awaits without saga":     "INSERT INTO awaits VALUES (1 << 30, 0, 1, 's', 0)",
		"event without type":      "INSERT INTO events VALUES (1 << 30, 'a', 'b', 99, 's', 0, 0, x'', NULL)",
		"turns without saga":      "DELETE FROM sagas WHERE key = 2",
		"definition is missing":   "DELETE FROM definitions WHERE key = (SELECT definition FROM sagas WHERE key = 1)",
		"an index doesn't fit":    replace + "'state = 5', 'state = 4') WHERE name = 'sagas_compensated'",
		"value of the wrong type": replace + "'due INTEGER', 'due TEXT') WHERE name = 'sagas'",
	} {
		t.Run(name, func(t *testing.T) {
			path, _ := writeStore(t)
			edit(t, path, "UPDATE sagas SET due = 5 WHERE key = 1")
			edit(t, path, sql)
			store := openAt(t, path)
			defer store.Close()
			if err := store.check(t.Context()); !errors.Is(err, journal.ErrCorrupt) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestMissingTurn reads a saga without its first turn.
func TestMissingTurn(t *testing.T) {
	path, l := writeStore(t)
	longest := slices.MaxFunc(slices.Collect(maps.Keys(l.turns)), func(a, b string) int {
		return len(l.turns[a]) - len(l.turns[b])
	})
	edit(t, path, "DELETE FROM turns WHERE position = (SELECT key << 24 | 1 FROM sagas WHERE id = '"+longest+"')")
	store := openAt(t, path)
	defer store.Close()
	if _, err := store.Load(t.Context(), longest); !errors.Is(err, journal.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

// TestReadByAnotherProgram reads the file with another connection, as the sqlite3 shell does, while the store writes.
// Neither waits for the other, and the views show what is stored.
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
			t.Fatalf("the view has %d turns, %d were written", n, turns)
		}
		group := l.group() // written while the other connection reads
		if err := store.Append(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		if n := count("SELECT count(*) FROM saga_turns"); n != int64(turns) {
			t.Fatalf("within one transaction, the view has %d turns and then %d", turns, n)
		}
		if err := other.Exec("COMMIT"); err != nil {
			t.Fatal(err)
		}
		if err := l.acknowledge(group); err != nil {
			t.Fatal(err)
		}
		turns += len(group)
	}
	for sql, want := range map[string]int{
		`saga_list WHERE name LIKE 'sagas/s%' AND
			state IN ('RUNNING', 'COMPENSATING', 'SUSPENDED', 'SUCCEEDED', 'COMPENSATED')`: len(l.turns),
		`saga_events WHERE type = 'T' AND store_time = '1970-01-01T00:00:01.000Z'`: len(l.events),
		`saga_list WHERE waiting = 'no' AND awaits IS NULL`:                        len(l.turns),
	} {
		if n := count("SELECT count(*) FROM " + sql); n != int64(want) || n == 0 {
			t.Errorf("%s has %d rows, want %d", sql, n, want)
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.audit(t, store, nil); err != nil {
		t.Error(err)
	}
}
