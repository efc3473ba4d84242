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

// readOnlyChild names the store that a child process of the test reads.
const readOnlyChild = "TREATY_TEST_READ_ONLY"

// TestReadOnlyChild is not a test but the other process of TestReadBesideWriter: it counts the sagas that it sees.
func TestReadOnlyChild(t *testing.T) {
	path := os.Getenv(readOnlyChild)
	if path == "" {
		t.Skip("it runs as a child of TestReadBesideWriter")
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

// TestReadBesideWriter reads a store that is being written, from this process and from another one. Neither disturbs the other.
func TestReadBesideWriter(t *testing.T) {
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
		t.Errorf("another process says %q, %v; want %q", out, err, want)
	}
	write()

	// The writer goes and comes again while it is read.
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
	for _, one := range []*Store{reader, store} {
		if err := one.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := reader.Get(t.Context(), "s1"); !errors.Is(err, journal.ErrClosed) {
		t.Errorf("a closed reader: %v", err)
	}
}

// TestReadOnlyChangesNothing opens a store that nobody has open, and tries to write to it.
func TestReadOnlyChangesNothing(t *testing.T) {
	path, l := written(t)
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
		"acknowledge": store.Acknowledge(ctx, "one", 1),
	}
	_, errs["consumer"] = store.Consumer(ctx, journal.Consumer{Name: "one"})
	_, errs["purge"] = store.Purge(ctx, journal.PurgeParams{EndedBefore: time.Now(), Limit: 1})
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

// TestReadOnlyAfterCrash reads what a process left that didn't close the store.
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

func TestOpenReadOnlyRefuses(t *testing.T) {
	newer, _ := written(t)
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
		says string
	}{
		{filepath.Join(t.TempDir(), "none.db"), fs.ErrNotExist, "there is no such file"},
		{filepath.Join(t.TempDir(), "not", "there.db"), fs.ErrNotExist, "its directory doesn't exist"},
		{old(t, 1), journal.ErrVersion, fmt.Sprintf("its schema has version 1, this program needs %d", len(migrations))},
		{empty, journal.ErrVersion, "its schema has version 0"},
		{newer, journal.ErrVersion, "use the newer program"},
		{garbage, journal.ErrCorrupt, "it is not a SQLite file"},
	} {
		store, err := OpenReadOnly(t.Context(), test.path)
		if err == nil {
			_ = store.Close() // it should not be open
		}
		if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.says) || !strings.Contains(fmt.Sprint(err), test.path) {
			t.Errorf("%s: got %v, want %v and %q", test.path, err, test.want, test.says)
		}
	}
}
