package sqlite

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestBackup copies a store that is open and written to, and restores the copy.
func TestBackup(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "sagas.db"), filepath.Join(dir, "backup.db")
	store := openAt(t, path)
	entry := &journal.Entry{Saga: "one", Turn: 1, Data: []byte("turn"), Row: &journal.Row{
		ID: "one", Definition: "X/Y", State: treatyv1.SagaState_SAGA_STATE_RUNNING, CreateTime: time.Unix(1, 0).UTC(),
		UpdateTime: time.Unix(1, 0).UTC(),
	}}
	if err := store.Append(t.Context(), []*journal.Entry{entry}); err != nil || entry.Err != nil {
		t.Fatal(err, entry.Err)
	}
	before := time.Now().Add(-time.Millisecond)
	taken, err := Backup(t.Context(), path, copied)
	if err != nil || taken.Before(before.Truncate(time.Microsecond)) || taken.After(time.Now()) {
		t.Fatalf("got %v, %v", taken, err)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode() != 0o600 {
		t.Errorf("the backup has the mode %v, %v", info.Mode(), err)
	}
	if _, err := Backup(t.Context(), path, copied); !errors.Is(err, fs.ErrExist) {
		t.Errorf("to a file that exists: %v", err)
	}
	if _, err := Backup(t.Context(), filepath.Join(dir, "none.db"), filepath.Join(dir, "other.db")); !errors.Is(err,
		fs.ErrNotExist) {
		t.Errorf("of no store: %v", err)
	}
	if _, err := os.Stat(copied + ".unfinished"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was left behind: %v", err)
	}
	epoch := store.Epoch()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}

	if _, err := Open(t.Context(), copied, journal.Opening{}); !errors.Is(err, journal.ErrBackup) ||
		!strings.Contains(err.Error(), "restore") {
		t.Errorf("opening the backup: %v", err)
	}
	reader, err := OpenReadOnly(t.Context(), copied)
	if err != nil || reader.Identity().Epoch != epoch {
		t.Fatalf("opening the backup for reading: %v", err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it may be restored again before it was compared
		restored, err := Restore(t.Context(), copied, journal.RestoreParams{Trusted: []string{"b.B", "a.A"}})
		if err != nil || !restored.BackupTime.Equal(taken) {
			t.Fatalf("got %+v, %v", restored, err)
		}
	}
	for range 2 {
		store = openAt(t, copied)
		got := store.Identity().Restored
		if got == nil || !got.BackupTime.Equal(taken) || len(got.Trusted) != 2 || store.Epoch() <= epoch {
			t.Errorf("the restored store says %+v, %+v", store.Identity(), got)
		}
		if loaded, err := store.Load(t.Context(), "one"); err != nil || len(loaded.Turns) != 1 {
			t.Errorf("the saga in the copy: %v, %v", loaded, err)
		}
		if _, err := Restore(t.Context(), copied, journal.RestoreParams{}); !errors.Is(err, journal.ErrLocked) {
			t.Errorf("restoring an open store: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	store = openAt(t, copied)
	if err := errors.Join(store.EndRestore(t.Context()), store.Close()); err != nil {
		t.Fatal(err)
	}
	if store = openAt(t, copied); store.Identity().Restored != nil {
		t.Error("the store is still to be compared")
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRestoreOtherCopies restores a copy without a mark, a store that was replaced, and one whose clock was ahead.
func TestRestoreOtherCopies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	if _, err := Restore(t.Context(), path, journal.RestoreParams{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no store: %v", err)
	}
	future := time.Now().Add(72 * time.Hour)
	store, err := Open(t.Context(), path, journal.Opening{Now: func() time.Time { return future }})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.MarkReplaced(t.Context(), "a test", 0), store.Close()); err != nil {
		t.Fatal(err)
	}
	if store = openAt(t, path); store.Identity().Replaced != "a test" || !store.Identity().EpochAhead {
		t.Errorf("the store says %+v", store.Identity())
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), path, journal.RestoreParams{}); !errors.Is(err, journal.ErrInvalid) ||
		!strings.Contains(err.Error(), "--since") {
		t.Errorf("a copy without a mark: %v", err)
	}
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	restored, err := Restore(t.Context(), path, journal.RestoreParams{Since: since, EpochFromClock: true})
	if err != nil || !restored.BackupTime.Equal(since) {
		t.Fatalf("got %+v, %v", restored, err)
	}
	if store = openAt(t, path); store.Identity().Replaced != "" || store.Identity().EpochAhead ||
		store.Identity().Restored == nil {
		t.Errorf("the store says %+v", store.Identity())
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	// Its epoch ends with random bits, which may be ahead by less than two seconds.
	if _, err := Restore(t.Context(), path, journal.RestoreParams{
		EpochFromClock: true, Now: func() time.Time { return future },
	}); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("a clock that isn't behind: %v", err)
	}
}

// TestRestoreRefuses restores what can't be right.
func TestRestoreRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sagas.db")
	store, err := Open(t.Context(), path, journal.Opening{Name: "ours"})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty.db")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	for _, test := range []struct {
		name   string
		path   string
		params journal.RestoreParams
		want   error
		says   string
	}{
		{"an empty file", empty, journal.RestoreParams{Since: past}, journal.ErrInvalid, "copy the backup there first"},
		{"another name", path, journal.RestoreParams{Since: past}, journal.ErrName, `"ours"`},
		{"a time in the future", path, journal.RestoreParams{Name: "ours", Since: time.Now().Add(time.Hour)},
			journal.ErrInvalid, "in the future"},
		{"an epoch that is believed", path, journal.RestoreParams{Name: "ours", Since: past, EpochFromClock: true},
			journal.ErrInvalid, "more than a day ahead"},
	} {
		if _, err := Restore(t.Context(), test.path, test.params); !errors.Is(err, test.want) ||
			!strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if _, err := Restore(t.Context(), path, journal.RestoreParams{Name: "ours", Since: past}); err != nil {
		t.Error(err)
	}
}

// TestRestoreAboveHeardEpoch restores a store that was replaced by one whose clock was ahead.
func TestRestoreAboveHeardEpoch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	heard := journal.ClockEpoch(time.Now().Add(10 * time.Hour))
	for _, epoch := range []uint64{heard, heard - 1, 0} {
		if err := store.MarkReplaced(t.Context(), "a test", epoch); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(t.Context(), path, journal.RestoreParams{Since: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if store = openAt(t, path); store.Epoch() <= heard || store.Identity().EpochAhead {
		t.Errorf("the epoch is %d, and participants have heard %d", store.Epoch(), heard)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestBackupOfBackup copies a backup. The copy lacks what the backup lacks.
func TestBackupOfBackup(t *testing.T) {
	dir := t.TempDir()
	path, first, second := filepath.Join(dir, "sagas.db"), filepath.Join(dir, "1.db"), filepath.Join(dir, "2.db")
	if err := openAt(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	taken, err := Backup(t.Context(), path, first)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Backup(t.Context(), first, second); err != nil || !again.Equal(taken) {
		t.Errorf("got %v, %v; the first one is of %v", again, err, taken)
	}
	if restored, err := Restore(t.Context(), second, journal.RestoreParams{}); err != nil ||
		!restored.BackupTime.Equal(taken) {
		t.Errorf("restored since %v, %v; want %v", restored.BackupTime, err, taken)
	}
}

// TestLogOfAnotherStore copies a backup next to the log that a killed orchestrator has left.
func TestLogOfAnotherStore(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "sagas.db"), filepath.Join(dir, "backup.db")
	if err := openAt(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(t.Context(), path, backup); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(backup+"-wal", []byte("pages"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(how string, err error) {
		t.Helper()
		if !errors.Is(err, journal.ErrInvalid) || !strings.Contains(err.Error(), "backup.db-wal") {
			t.Errorf("%s: %v", how, err)
		}
	}
	_, err := Open(t.Context(), backup, journal.Opening{})
	check("open", err)
	_, err = OpenReadOnly(t.Context(), backup)
	check("open for reading", err)
	_, err = Restore(t.Context(), backup, journal.RestoreParams{})
	check("restore", err)
}
