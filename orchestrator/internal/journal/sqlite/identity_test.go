package sqlite

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// TestEpoch opens stores while the clock and the random numbers are given.
func TestEpoch(t *testing.T) {
	noon := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	clock := func(at time.Time) uint64 { return uint64(at.UnixMilli()) << 20 }
	path := filepath.Join(t.TempDir(), "sagas.db")
	for _, opening := range []struct {
		name   string
		now    time.Time
		random uint64
		want   uint64
		ahead  bool
	}{
		{"the first opening follows the clock", noon, 5, clock(noon) + 5, false},
		{"the random number has 20 bits", noon.Add(time.Second), 1<<63 | 7, clock(noon.Add(time.Second)) + 7, false},
		{"the same millisecond", noon.Add(time.Second), 3, clock(noon.Add(time.Second)) + 8 + 3, false},
		{"the clock went back an hour", noon.Add(-time.Hour), 0, clock(noon.Add(time.Second)) + 12, false},
		{"the clock went back a week", noon.Add(-7 * 24 * time.Hour), 0, clock(noon.Add(time.Second)) + 13, true},
		{"and returned", noon.Add(time.Minute), 1, clock(noon.Add(time.Minute)) + 1, false},
	} {
		store, err := Open(t.Context(), path, journal.Opening{
			Now: func() time.Time { return opening.now }, Rand: func() uint64 { return opening.random },
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := store.Identity(); got.Epoch != opening.want || got.EpochAhead != opening.ahead {
			t.Errorf("%s: got %d (ahead: %v), want %d (%v)", opening.name, got.Epoch, got.EpochAhead, opening.want,
				opening.ahead)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNames(t *testing.T) {
	open := func(path, name string) error {
		t.Helper()
		store, err := Open(t.Context(), path, journal.Opening{Name: name})
		if err == nil {
			err = store.Close()
		}
		return err
	}
	path := filepath.Join(t.TempDir(), "sagas.db")
	for _, opening := range []struct {
		name string
		want error
	}{{"east", nil}, {"east", nil}, {"west", journal.ErrName}, {"", journal.ErrName}} {
		if err := open(path, opening.name); !errors.Is(err, opening.want) {
			t.Errorf("opening as %q: %v, want %v", opening.name, err, opening.want)
		}
	}
	// The ids in an older store were derived without a name.
	old := oldStore(t, 2)
	for _, opening := range []struct {
		name string
		want error
	}{{"east", journal.ErrName}, {"", nil}, {"east", journal.ErrName}} {
		if err := open(old, opening.name); !errors.Is(err, opening.want) {
			t.Errorf("opening the older store as %q: %v, want %v", opening.name, err, opening.want)
		}
	}
}
