package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// readOnlyChild is an environment variable with the path of a store. If it is set, TestReadOnlyChild reads the store.
const readOnlyChild = "TREATY_TEST_READ_ONLY"

// TestReadOnlyChild is the other process of TestReadDuringWrites. It counts the sagas in the store.
func TestReadOnlyChild(t *testing.T) {
	path := os.Getenv(readOnlyChild)
	if path == "" {
		t.Skip("TestReadDuringWrites runs it")
	}
	store, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rows, err := store.List(t.Context(), journal.ListParams{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("sagas=%d\n", len(rows))
}

// TestReadDuringWrites reads a store from this process and from another one while it is written. Neither disturbs the
// other.
func TestReadDuringWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	l := newLedger(5)
	write := func() {
		t.Helper()
		group := l.group()
		if err := store.Append(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		if err := l.acknowledge(group); err != nil {
			t.Fatal(err)
		}
	}
	write()
	reader, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		write()
		if err := l.audit(t, reader, nil); err != nil {
			t.Fatal(err)
		}
	}
	if reader.Epoch() != store.Epoch() {
		t.Errorf("the reader's epoch is %d, the writer's %d", reader.Epoch(), store.Epoch())
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestReadOnlyChild$")
	child.Env = append(os.Environ(), readOnlyChild+"="+path)
	out, err := child.CombinedOutput()
	if want := fmt.Sprintf("sagas=%d\n", len(l.turns)); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("the other process printed %q, %v; want %q", out, err, want)
	}
	write()

	// The store is closed for writing and opened again while the reader is open.
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.audit(t, reader, nil); err != nil {
		t.Error(err)
	}
	store = openAt(t, path)
	write()
	if err := l.audit(t, reader, nil); err != nil {
		t.Error(err)
	}
	for _, s := range []*Store{reader, store} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := reader.Get(t.Context(), "s1"); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("a closed reader: %v", err)
	}
}

// TestReadOnlyChangesNothing opens a store for reading and tries to write it.
func TestReadOnlyChangesNothing(t *testing.T) {
	path, l := writeStore(t)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	store, err := OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.audit(t, store, nil); err != nil {
		t.Error(err)
	}
	ctx := t.Context()
	errs := map[string]error{
		"append":      store.Append(ctx, l.group()),
		"acknowledge": store.Acknowledge(ctx, "one", 1, ""),
	}
	_, errs["consumer"] = store.Consumer(ctx, journal.Consumer{Name: "one"})
	_, errs["purge"] = store.Purge(ctx, journal.PurgeParams{EndedBefore: time.Now(), Limit: 1})
	_, errs["purge ids"] = store.PurgeIDs(ctx, time.Now(), 1)
	_, errs["purge events"] = store.PurgeEvents(ctx, time.Now(), 1)
	for what, err := range errs {
		if !errors.Is(err, journal.ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file was changed, or can't be read: %v", err)
	}
	again := openAt(t, path)
	defer again.Close()
	if err := l.audit(t, again, nil); err != nil {
		t.Error(err)
	}
}

// TestReadOnlyAfterCrash reads a store that a process didn't close.
func TestReadOnlyAfterCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	defer store.Close()
	l := newLedger(6)
	for range 10 {
		group := l.group()
		if err := store.Append(t.Context(), group); err != nil {
			t.Fatal(err)
		}
		if err := l.acknowledge(group); err != nil {
			t.Fatal(err)
		}
	}
	left := filepath.Join(t.TempDir(), "sagas.db")
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(left+suffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := OpenReadOnly(t.Context(), left)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := l.audit(t, reader, nil); err != nil {
		t.Error(err)
	}
}

func TestOpenReadOnlyInvalid(t *testing.T) {
	newer, _ := writeStore(t)
	edit(t, newer, fmt.Sprintf("PRAGMA user_version = %d", len(migrations)+1))
	garbage := filepath.Join(t.TempDir(), "garbage.db")
	empty := filepath.Join(t.TempDir(), "empty.db")
	for name, content := range map[string]string{garbage: strings.Repeat("garbage ", 100), empty: ""} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		path string
		want error
		text string
	}{
		{filepath.Join(t.TempDir(), "none.db"), fs.ErrNotExist, "file does not exist"},
		{filepath.Join(t.TempDir(), "not", "there.db"), fs.ErrNotExist, "its directory doesn't exist"},
		{oldStore(t, 1), journal.ErrVersion, fmt.Sprintf("version 1, this program needs %d", len(migrations))},
		{empty, journal.ErrVersion, "its schema has version 0"},
		{newer, journal.ErrVersion, "use the newer program"},
		{garbage, journal.ErrCorrupt, "isn't a SQLite file"},
	} {
		store, err := OpenReadOnly(t.Context(), test.path)
		if err == nil {
			_ = store.Close()
		}
		message := fmt.Sprint(err)
		if !errors.Is(err, test.want) ||
			!strings.Contains(message, test.text) || !strings.Contains(message, test.path) {
			t.Errorf("%s: got %v, want %v and %q", test.path, err, test.want, test.text)
		}
	}
}
