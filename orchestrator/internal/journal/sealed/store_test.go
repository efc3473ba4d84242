package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/sealed"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
)

// closing is a sealed store that can be closed.
type closing struct {
	*sealed.Store
	io.Closer
}

// keysAt returns the keys in a directory, which it creates if there are none.
func keysAt(t testing.TB, dir string) *sealed.Keys {
	t.Helper()
	path := filepath.Join(dir, "keys.json")
	if _, err := sealed.CreateKeys(path); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	keys, err := sealed.OpenKeys(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newSealed(t testing.TB, inside journal.Store, dir string) *sealed.Store {
	t.Helper()
	return sealed.New(inside, keysAt(t, dir))
}

func rotate(t testing.TB, dir string) (id string) {
	t.Helper()
	id, err := sealed.RotateKeys(filepath.Join(dir, "keys.json"))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestMemory runs the suite with another primary key after each reopening. Only the model keeps its keys: it compares
// the positions of all that is written in one group. An event that was stored under an older key is found after that,
// so the new events beside it are written later.
func TestMemory(t *testing.T) {
	opened := make(map[string]*journaltest.Memory)
	journaltest.Exercise(t, func(t *testing.T, dir string) journaltest.Store {
		keysAt(t, dir)
		if !strings.Contains(t.Name(), "/model/") {
			rotate(t, dir)
		}
		if before := opened[dir]; before != nil {
			opened[dir] = before.Reopen()
		} else {
			opened[dir] = journaltest.NewMemory()
		}
		return closing{sealed.New(opened[dir], keysAt(t, dir)), opened[dir]}
	})
}

func TestSQLite(t *testing.T) {
	journaltest.Exercise(t, func(t *testing.T, dir string) journaltest.Store { return open(t, dir) })
}

// open opens a sealed SQLite store in a directory.
func open(t testing.TB, dir string) closing {
	t.Helper()
	inside := openInside(t, dir)
	return closing{sealed.New(inside, keysAt(t, dir)), inside}
}

func openInside(t testing.TB, dir string) stores.Store {
	t.Helper()
	inside, err := stores.Open(t.Context(), filepath.Join(dir, "treaty.db"), journal.Opening{})
	if err != nil {
		t.Fatal(err)
	}
	return inside
}

const definition = "acme.card.v1.CardSagas/IssueCard"

var noon = time.Date(2026, time.January, 31, 12, 0, 0, 0, time.UTC)

// first returns the first turn of a saga.
func first(id, data string, labels map[string]string) *journal.Entry {
	return &journal.Entry{Saga: id, Turn: 1, Data: []byte(data), Row: &journal.Row{
		ID: id, Definition: definition, State: treatyv1.SagaState_SAGA_STATE_RUNNING, Labels: labels,
		CreateTime: noon, UpdateTime: noon,
	}}
}

func event(id, data string) *journal.Event {
	return &journal.Event{Source: "shop", ID: id, Type: "acme.Paid", Subject: "c-1", Time: noon, StoreTime: noon,
		Data: []byte(data)}
}

func write(t testing.TB, store journal.Store, group ...*journal.Entry) {
	t.Helper()
	if err := store.Append(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	for _, entry := range group {
		if entry.Err != nil {
			t.Fatal(entry.Err)
		}
	}
}

func publish(t testing.TB, store journal.Store, events ...*journal.Event) error {
	t.Helper()
	entry := &journal.Entry{Events: events}
	if err := store.Append(t.Context(), []*journal.Entry{entry}); err != nil {
		t.Fatal(err)
	}
	return entry.Err
}

func shut(t testing.TB, store io.Closer) {
	t.Helper()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// TestFilesHoldNoPayload looks for payloads in the files of a store: while it is open, after it was closed, and in a
// backup.
func TestFilesHoldNoPayload(t *testing.T) {
	const canary = "canary"
	dir := t.TempDir()
	store := open(t, dir)
	entry := first("s-1", "request "+canary, map[string]string{"customer": canary + "@example.com"})
	entry.Events = []*journal.Event{event("e-1", canary+" inside an event")}
	write(t, store, entry)
	write(t, store, &journal.Entry{Saga: "s-1", Turn: 2, Data: []byte("reply " + canary)})
	holdsNone := func(when string) {
		t.Helper()
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			content, err := os.ReadFile(filepath.Join(dir, file.Name()))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(content, []byte(canary)) {
				t.Errorf("%s: %s holds a payload", when, file.Name())
			}
		}
		if when == "open" && !slices.ContainsFunc(files, func(f os.DirEntry) bool {
			info, err := f.Info()
			return err == nil && f.Name() == "treaty.db-wal" && info.Size() > 0
		}) {
			t.Error("there is no write-ahead log to look at")
		}
	}
	holdsNone("open")
	_, err := stores.Backup(t.Context(), filepath.Join(dir, "treaty.db"), filepath.Join(dir, "copy.db"))
	if err != nil {
		t.Fatal(err)
	}
	holdsNone("backed up")
	shut(t, store)
	holdsNone("closed")
}

// TestBackup restores a backup of a sealed store, with the keys, without them, and with others.
func TestBackup(t *testing.T) {
	dir, restored := t.TempDir(), t.TempDir()
	store := open(t, dir)
	write(t, store, first("s-1", "request", map[string]string{"customer": "c-1"}))
	copied := filepath.Join(restored, "treaty.db")
	if _, err := stores.Backup(t.Context(), filepath.Join(dir, "treaty.db"), copied); err != nil {
		t.Fatal(err)
	}
	shut(t, store)
	if _, err := stores.Restore(t.Context(), copied, journal.RestoreParams{}); err != nil {
		t.Fatal(err)
	}
	inside := openInside(t, restored)
	defer shut(t, inside)
	if err := sealed.CheckPlain(t.Context(), inside); !errors.Is(err, journal.ErrKey) {
		t.Errorf("without keys: CheckPlain = %v, want ErrKey", err)
	}
	loaded, err := sealed.New(inside, keysAt(t, dir)).Load(t.Context(), "s-1")
	if err != nil || string(loaded.Turns[0].Data) != "request" || loaded.Row.Labels["customer"] != "c-1" {
		t.Errorf("with the keys: Load = %v, %v; want the saga", loaded, err)
	}
	if _, err := sealed.New(inside, keysAt(t, restored)).Load(t.Context(), "s-1"); !errors.Is(err, journal.ErrKey) {
		t.Errorf("with other keys: Load = %v, want ErrKey", err)
	}
}

// TestMovedData moves what is sealed to another place, in the memory inside a store.
func TestMovedData(t *testing.T) {
	dir := t.TempDir()
	write := func(entry *journal.Entry) journal.Entry {
		spy := &spy{Memory: journaltest.NewMemory()}
		write(t, sealed.New(spy, keysAt(t, dir)), entry)
		return *spy.written[0]
	}
	labels := map[string]string{"customer": "c-1"}
	paid := first("s-1", "request", labels)
	paid.Events = []*journal.Event{event("e-1", "paid")}
	turn := write(paid)
	other := write(first("s-2", "request 2", labels))
	event2 := *turn.Events[0]
	event2.ID = "e-2"
	for name, moved := range map[string]struct {
		entry journal.Entry
		read  func(journal.Store) error
	}{
		"turn to another saga": {
			journal.Entry{Saga: "s-2", Turn: 1, Data: turn.Data, Row: other.Row},
			func(s journal.Store) error { _, err := s.Load(t.Context(), "s-2"); return err },
		},
		"labels to another saga": {
			journal.Entry{Saga: "s-2", Turn: 1, Data: other.Data, Row: &journal.Row{
				ID: "s-2", Definition: definition, State: turn.Row.State, Labels: turn.Row.Labels,
			}},
			func(s journal.Store) error { _, err := s.Get(t.Context(), "s-2"); return err },
		},
		"event to another id": {
			journal.Entry{Events: []*journal.Event{&event2}},
			func(s journal.Store) error {
				_, err := s.Events(t.Context(), journal.EventsParams{Limit: 9})
				return err
			},
		},
		"event to a turn": {
			journal.Entry{Saga: "s-2", Turn: 1, Data: turn.Events[0].Data, Row: other.Row},
			func(s journal.Store) error { _, err := s.Turns(t.Context(), "s-2", 0, 9); return err },
		},
		"envelope cut off": {
			journal.Entry{Saga: "s-2", Turn: 1, Data: other.Data[:40], Row: other.Row},
			func(s journal.Store) error { _, err := s.Load(t.Context(), "s-2"); return err },
		},
		"envelope of another version": {
			journal.Entry{Saga: "s-2", Turn: 1, Data: append([]byte{0, 9}, other.Data[2:]...), Row: other.Row},
			func(s journal.Store) error { _, err := s.Load(t.Context(), "s-2"); return err },
		},
	} {
		t.Run(name, func(t *testing.T) {
			inside := journaltest.NewMemory()
			store := sealed.New(inside, keysAt(t, dir))
			if err := inside.Append(t.Context(), []*journal.Entry{&moved.entry}); err != nil {
				t.Fatal(err)
			}
			if err := moved.read(store); !errors.Is(err, journal.ErrCorrupt) {
				t.Errorf("reading it: %v, want ErrCorrupt", err)
			}
		})
	}
	t.Run("turn to another number", func(t *testing.T) {
		inside := journaltest.NewMemory()
		again := journal.Entry{Saga: "s-1", Turn: 2, Data: turn.Data}
		for _, entry := range []*journal.Entry{&turn, &again} {
			if err := inside.Append(t.Context(), []*journal.Entry{entry}); err != nil || entry.Err != nil {
				t.Fatal(err, entry.Err)
			}
		}
		store := sealed.New(inside, keysAt(t, dir))
		if _, err := store.Load(t.Context(), "s-1"); !errors.Is(err, journal.ErrCorrupt) {
			t.Errorf("loading it: %v, want ErrCorrupt", err)
		}
		page, err := store.Open(t.Context(), journal.OpenParams{Limit: 9})
		if err != nil || len(page) != 1 || !errors.Is(page[0].Err, journal.ErrCorrupt) || page[0].Turns != nil {
			t.Errorf("Open = %+v, %v; want the saga with ErrCorrupt", page, err)
		}
	})
}

// spy is a store that notes what was written.
type spy struct {
	*journaltest.Memory

	written []*journal.Entry
}

// Append writes a group.
func (s *spy) Append(ctx context.Context, group []*journal.Entry) error {
	s.written = append(s.written, group...)
	return s.Memory.Append(ctx, group)
}

// TestMissingKey takes a key out of the file. What is sealed with it can't be read and says so; the rest can.
func TestMissingKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	store := open(t, dir)
	defer shut(t, store)
	write(t, store, first("s-1", "old", map[string]string{"customer": "c-1"}))
	write(t, store, &journal.Entry{Saga: "s-1", Turn: 2, Data: []byte("old, too")})
	if err := publish(t, store, event("e-1", "old")); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := idsIn(t, path)[0]
	rotate(t, dir)
	without(t, path, old)
	store.Store = sealed.New(openAgain(t, &store, dir), keysAt(t, dir))
	write(t, store, first("s-2", "new", nil))

	_, err = store.Load(t.Context(), "s-1")
	missing, is := errors.AsType[*journal.KeyError](err)
	if !is || missing.Key != old || missing.Turn != 2 || missing.Row == nil || missing.Row.ID != "s-1" {
		t.Errorf("Load = %+v, want a KeyError with the key %s, turn 2 and the row", err, old)
	}
	if err != nil && !strings.Contains(err.Error(), old) {
		t.Errorf("the error %q doesn't name the key %s", err, old)
	}
	if _, err := store.Turns(t.Context(), "s-1", 0, 9); !errors.Is(err, journal.ErrKey) {
		t.Errorf("Turns = %v, want ErrKey", err)
	}
	if _, err := store.Events(t.Context(), journal.EventsParams{Limit: 9}); !errors.Is(err, journal.ErrKey) {
		t.Errorf("Events = %v, want ErrKey", err)
	}
	if err := publish(t, store, event("e-1", "old")); !errors.Is(err, journal.ErrExists) {
		t.Errorf("publishing again = %v, want ErrExists", err)
	}
	row, err := store.Get(t.Context(), "s-1")
	if err != nil || !errors.Is(row.Err, journal.ErrKey) || row.Labels != nil {
		t.Errorf("Get = %+v, %v; want the row with ErrKey and without labels", row, err)
	}
	page, err := store.Open(t.Context(), journal.OpenParams{Limit: 9})
	if err != nil || len(page) != 2 || !errors.Is(page[0].Err, journal.ErrKey) || page[1].Err != nil ||
		string(page[1].Turns[0].Data) != "new" {
		t.Errorf("Open = %+v, %v; want one saga with ErrKey and one without", page, err)
	}
	rows, err := store.List(t.Context(), journal.ListParams{Limit: 9})
	if err != nil || len(rows) != 2 || !errors.Is(rows[0].Err, journal.ErrKey) || rows[1].Err != nil {
		t.Errorf("List = %+v, %v; want one row with ErrKey and one without", rows, err)
	}

	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := store.Load(t.Context(), "s-1") // it reads the file at once
	if err != nil || string(loaded.Turns[1].Data) != "old, too" {
		t.Errorf("once the key is back: Load = %+v, %v; want the saga", loaded, err)
	}
}

// openAgain closes a store and opens the one inside it again.
func openAgain(t testing.TB, store *closing, dir string) stores.Store {
	t.Helper()
	shut(t, store)
	inside := openInside(t, dir)
	store.Closer = inside
	return inside
}

// TestEventsPublishedAgain publishes events again after the key was rotated, or with keys after it was published
// without: live events, and events that were purged. The same event is the same; another one is refused.
func TestEventsPublishedAgain(t *testing.T) {
	for _, before := range []string{"rotated", "plain"} {
		for _, purged := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, purged %v", before, purged), func(t *testing.T) {
				dir := t.TempDir()
				inside := openInside(t, dir)
				defer shut(t, inside)
				var store journal.Store = inside
				if before == "rotated" {
					store = sealed.New(inside, keysAt(t, dir))
				}
				old := event("e-1", "paid")
				if err := publish(t, store, old, event("e-2", "paid, too")); err != nil {
					t.Fatal(err)
				}
				if purged {
					if err := publish(t, store, event("e-last", "the newest event stays")); err != nil {
						t.Fatal(err)
					}
					if n, err := store.PurgeEvents(t.Context(), noon.Add(time.Hour), 2); n != 2 || err != nil {
						t.Fatal(n, err)
					}
				}
				keysAt(t, dir)
				rotate(t, dir)
				store = sealed.New(inside, keysAt(t, dir))

				again, added := event("e-1", "paid"), event("e-3", "new")
				if err := publish(t, store, again, added); err != nil {
					t.Errorf("publishing it again with another: %v", err)
				}
				if again.Position != old.Position || again.Err != nil || added.Position <= old.Position {
					t.Errorf("positions %d and %d, %v; want %d again and a later one", again.Position, added.Position,
						again.Err, old.Position)
				}
				other := event("e-1", "not paid")
				if err := publish(t, store, other); !errors.Is(err, journal.ErrExists) {
					t.Errorf("publishing another one with its id: %v, want ErrExists", err)
				}
				again, other = event("e-1", "paid"), event("e-2", "other")
				entry := first("s-1", "request", nil)
				entry.Events = []*journal.Event{again, other}
				write(t, store, entry)
				if again.Err != nil || again.Position != old.Position || !errors.Is(other.Err, journal.ErrExists) {
					t.Errorf("with a turn: %d, %v and %v; want the old position, and ErrExists", again.Position,
						again.Err, other.Err)
				}
				_, newest, err := store.EventRange(t.Context())
				if err != nil || newest != added.Position {
					t.Errorf("the newest position is %d, %v; want %d", newest, err, added.Position)
				}
			})
		}
	}
}

// TestTwiceInOneEntry publishes two events with one id together. None is written.
func TestTwiceInOneEntry(t *testing.T) {
	store := sealed.New(journaltest.NewMemory(), keysAt(t, t.TempDir()))
	if err := publish(t, store, event("e-1", "paid"), event("e-1", "not paid")); !errors.Is(err, journal.ErrExists) {
		t.Errorf("publish = %v, want ErrExists", err)
	}
	if _, newest, err := store.EventRange(t.Context()); newest != 0 || err != nil {
		t.Errorf("the newest event has the position %d, %v; want none", newest, err)
	}
}

// TestPlainRows opens a store with keys that was written without. What it has stays readable and can be found.
func TestPlainRows(t *testing.T) {
	dir := t.TempDir()
	inside := openInside(t, dir)
	defer shut(t, inside)
	labels := map[string]string{"customer": "c-1"}
	write(t, inside, first("plain", "request", labels))
	if err := publish(t, inside, event("e-1", "paid")); err != nil {
		t.Fatal(err)
	}
	if err := sealed.CheckPlain(t.Context(), inside); err != nil {
		t.Errorf("CheckPlain = %v, want nil", err)
	}
	store := sealed.New(inside, keysAt(t, dir))
	write(t, store, &journal.Entry{Saga: "plain", Turn: 2, Data: []byte("reply")})
	write(t, store, first("sealed", "request", labels), first("other", "request", map[string]string{"customer": "c-2"}))
	loaded, err := store.Load(t.Context(), "plain")
	if err != nil || string(loaded.Turns[0].Data) != "request" || string(loaded.Turns[1].Data) != "reply" ||
		loaded.Row.Labels["customer"] != "c-1" {
		t.Errorf("Load = %+v, %v; want both turns and the label", loaded, err)
	}
	if events, err := store.Events(t.Context(), journal.EventsParams{Limit: 9}); err != nil || len(events) != 1 ||
		string(events[0].Data) != "paid" {
		t.Errorf("Events = %+v, %v; want the event", events, err)
	}
	for _, op := range []journal.FilterOp{journal.Equal, journal.NotEqual, journal.Less} {
		filter := &journal.Filter{Op: op, Field: journal.FieldLabel, Label: "customer", Text: "c-1"}
		want := map[journal.FilterOp]string{journal.Equal: "plain sealed", journal.NotEqual: "other"}[op]
		rows, err := store.List(t.Context(), journal.ListParams{Filter: filter, Limit: 9})
		var ids []string
		for _, row := range rows {
			ids = append(ids, row.ID)
		}
		if got := strings.Join(ids, " "); err != nil || got != want {
			t.Errorf("operation %d selects %q, %v; want %q", op, got, err, want)
		}
	}
	if err := sealed.CheckPlain(t.Context(), inside); !errors.Is(err, journal.ErrKey) {
		t.Errorf("CheckPlain once something is sealed = %v, want ErrKey", err)
	}
}

// TestReservedLabel starts a saga with the label that stores use.
func TestReservedLabel(t *testing.T) {
	store := sealed.New(journaltest.NewMemory(), keysAt(t, t.TempDir()))
	entry := first("s-1", "request", map[string]string{"treaty:sealed": "x"})
	if err := store.Append(t.Context(), []*journal.Entry{entry}); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("Append = %v, want ErrInvalid", err)
	}
}

// TestEveryMethodIsConsidered fails when a store gets a new method. Does it write or return something that must be
// sealed? If so, override it, or else add it here.
func TestEveryMethodIsConsidered(t *testing.T) {
	sealing := "Append Children Events Get List Load NextEvent Open PurgeEventIDs Turns"
	passing := "Acknowledge AddLost Consumer Due EndRestore Epoch EventRange Hear Identity Lost MarkReplaced " +
		"NoteRemoteChildren NoteTraced OldestChild OldestOpen Participants Purge PurgeEvents PurgeIDs Purged " +
		"PutParticipant RaisePosition RemoveLost"
	want := slices.Sorted(slices.Values(strings.Fields(sealing + " " + passing)))
	var got []string
	for method := range reflect.TypeFor[journal.Store]().Methods() {
		got = append(got, method.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("a store has the methods %q, want %q", got, want)
	}
}
