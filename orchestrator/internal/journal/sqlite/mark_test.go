package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// crashed writes to a store, and returns the path of a copy that is as a crash leaves it.
func crashed(t *testing.T, write func(store *Store)) string {
	t.Helper()
	path, left := filepath.Join(t.TempDir(), "sagas.db"), filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path)
	write(store)
	for _, suffix := range []string{"", "-wal", "-lock"} {
		data, err := os.ReadFile(path + suffix)
		if err == nil {
			err = os.WriteFile(left+suffix, data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return left
}

func mustAppend(t *testing.T, store *Store, entry *journal.Entry) {
	t.Helper()
	if err := errors.Join(store.Append(t.Context(), []*journal.Entry{entry}), entry.Err); err != nil {
		t.Fatal(err)
	}
}

func turnOf(saga string, turn uint64, state treatyv1.SagaState) *journal.Entry {
	row := &journal.Row{ID: saga, Definition: "X/Y", State: state, UpdateTime: time.Unix(1, 0)}
	if journal.Final(state) {
		row.EndTime = time.Unix(1, 0)
	}
	return &journal.Entry{Saga: saga, Turn: turn, Data: []byte("data"), Row: row}
}

const (
	running   = treatyv1.SagaState_SAGA_STATE_RUNNING
	succeeded = treatyv1.SagaState_SAGA_STATE_SUCCEEDED
)

// TestLogIsDamaged damages the write-ahead log that a crash left. The store isn't opened before it is restored.
func TestLogIsDamaged(t *testing.T) {
	damage := map[string]func(log string) error{
		"removed": os.Remove,
		"cut": func(log string) error {
			info, err := os.Stat(log)
			if err != nil {
				return err
			}
			return os.Truncate(log, info.Size()-1)
		},
		"the header is overwritten": func(log string) error {
			file, err := os.OpenFile(log, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = file.WriteAt(make([]byte, 32), 0)
			return errors.Join(err, file.Close())
		},
	}
	last := map[string]*journal.Entry{
		"a new saga":  turnOf("two", 1, running),
		"a turn":      turnOf("one", 2, running),
		"a new round": {Saga: "one", Turn: 2, Row: turnOf("one", 2, running).Row, NewRound: true},
		"an event":    {Events: []*journal.Event{{Source: "a", ID: "2", Type: "T", StoreTime: time.Unix(1, 0)}}},
	}
	for how, damage := range damage {
		for what, entry := range last {
			t.Run(fmt.Sprintf("%s/%s", how, what), func(t *testing.T) {
				path := crashed(t, func(store *Store) {
					mustAppend(t, store, turnOf("one", 1, running))
					// A part of the file is written, so it is there without the log.
					if err := store.writer.conn.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
						t.Fatal(err)
					}
					mustAppend(t, store, entry)
				})
				if err := damage(path + "-wal"); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					_, err := Open(t.Context(), path, journal.Opening{})
					const advice = "--since 1970-01-01T00:00:01Z"
					if !errors.Is(err, journal.ErrGone) || !strings.Contains(err.Error(), advice) {
						t.Fatalf("opening it: %v", err)
					}
				}
				if _, err := Restore(t.Context(), path, journal.RestoreParams{Since: time.Unix(1, 0)}); err != nil {
					t.Fatal(err)
				}
				store := openAt(t, path)
				defer store.Close()
				if store.Identity().Restored == nil {
					t.Error("it wasn't restored")
				}
			})
		}
	}
}

// TestLogIsWhole opens what a crash leaves of a store from which something was deleted in the meantime.
func TestLogIsWhole(t *testing.T) {
	for name, write := range map[string]func(store *Store){
		"nothing":  func(*Store) {},
		"appended": func(store *Store) { mustAppend(t, store, turnOf("one", 1, running)) },
		"purged": func(store *Store) {
			mustAppend(t, store, turnOf("one", 1, succeeded))
			params := journal.PurgeParams{Definitions: []string{"X/Y"}, EndedBefore: time.Unix(9, 0), Limit: 9}
			if n, err := store.Purge(t.Context(), params); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		},
		"an old mark, and a new round": func(store *Store) {
			mustAppend(t, store, turnOf("one", 1, running))
			old := store.writer.mark
			store.writer.mark = nil
			second := turnOf("one", 2, running)
			second.NewRound = true
			mustAppend(t, store, second)
			store.writer.mark = old
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := openAt(t, crashed(t, write))
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
