package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/ncruces/go-sqlite3"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// ledger records what a store has acknowledged.
type ledger struct {
	random *rand.Rand
	turns  map[string][][]byte
	events []*journal.Event
	made   int
}

func newLedger(seed uint64) *ledger {
	return &ledger{random: rand.New(rand.NewPCG(seed, 3)), turns: make(map[string][][]byte)}
}

// group returns the next turns of some sagas, and sometimes a new saga.
func (l *ledger) group() []*journal.Entry {
	var group []*journal.Entry
	in := make(map[string]bool)
	ids := slices.Sorted(maps.Keys(l.turns))
	for range 1 + l.random.IntN(6) {
		id := fmt.Sprintf("s%d", l.made+1)
		if len(ids) > 0 && l.random.IntN(3) > 0 {
			id = ids[l.random.IntN(len(ids))]
		} else {
			l.made++
		}
		if in[id] {
			continue
		}
		in[id] = true
		entry := &journal.Entry{Saga: id, Turn: uint64(len(l.turns[id])) + 1, Data: make([]byte, l.random.IntN(1500))}
		for i := range entry.Data {
			entry.Data[i] = byte(l.random.Uint32())
		}
		if entry.Turn == 1 || l.random.IntN(3) == 0 {
			entry.Row = &journal.Row{
				ID: id, Definition: fmt.Sprintf("X/%d", l.random.IntN(9)),
				State:  treatyv1.SagaState(1 + l.random.IntN(5)),
				Labels: map[string]string{"label": id},
			}
		}
		if l.random.IntN(3) == 0 {
			entry.Events = []*journal.Event{{
				Source: "sagas/" + id, ID: fmt.Sprint(entry.Turn), Type: "T", Subject: id, StoreTime: time.Unix(1, 0),
				Data: entry.Data,
			}}
		}
		group = append(group, entry)
	}
	return group
}

func (l *ledger) acknowledge(group []*journal.Entry) error {
	for _, entry := range group {
		if entry.Err != nil {
			return fmt.Errorf("turn %d of saga %s: %w", entry.Turn, entry.Saga, entry.Err)
		}
		l.turns[entry.Saga] = append(l.turns[entry.Saga], entry.Data)
		l.events = append(l.events, entry.Events...)
	}
	return nil
}

// audit compares a store with the ledger. The group in doubt must be stored as a whole or not at all. If it is, the
// ledger records it.
func (l *ledger) audit(t testing.TB, store *Store, doubt []*journal.Entry) error {
	t.Helper()
	stored := 0
	for _, entry := range doubt {
		saga, err := store.Load(t.Context(), entry.Saga)
		if err != nil && !errors.Is(err, journal.ErrNotFound) {
			return err
		}
		if err == nil && uint64(len(saga.Turns)) >= entry.Turn {
			stored++
			entry.Err = nil
		}
	}
	if stored != 0 && stored != len(doubt) {
		return fmt.Errorf("of a group of %d entries, %d were written", len(doubt), stored)
	}
	if stored != 0 {
		if err := l.acknowledge(doubt); err != nil {
			return err
		}
	}
	for id, turns := range l.turns {
		saga, err := store.Load(t.Context(), id)
		if err != nil {
			return err
		}
		if len(saga.Turns) != len(turns) {
			return fmt.Errorf("saga %s has %d turns; %d were acknowledged", id, len(saga.Turns), len(turns))
		}
		for i, data := range turns {
			if !bytes.Equal(saga.Turns[i].Data, data) {
				return fmt.Errorf("turn %d of saga %s differs from what was written", i+1, id)
			}
		}
	}
	events, err := store.Events(t.Context(), journal.EventsParams{Limit: len(l.events) + 1})
	if err != nil {
		return err
	}
	if len(events) != len(l.events) {
		return fmt.Errorf("%d events are stored; %d were acknowledged", len(events), len(l.events))
	}
	for i, want := range l.events {
		got := events[i]
		if got.Source != want.Source || got.ID != want.ID || !bytes.Equal(got.Data, want.Data) {
			return fmt.Errorf("event %d is %s of %s, want %s of %s", i, got.ID, got.Source, want.ID, want.Source)
		}
	}
	return store.check(t.Context())
}

// losePower writes groups until the power is lost at a random operation. It returns a directory with what is left, and
// the group that was being written.
func losePower(t testing.TB, l *ledger, dir, pragma string) (left string, doubt []*journal.Entry) {
	t.Helper()
	d, option := newDisk(t)
	last := 1 + l.random.IntN(120)
	d.fault = func(op operation) fault {
		d.off = d.off || op.number >= last
		return fault{}
	}
	store, err := openFile(t.Context(), filepath.Join(dir, "sagas.db"), option)
	if err == nil {
		if err := store.writer.conn.Exec(pragma); err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			doubt = l.group()
			if err := store.Append(t.Context(), doubt); err != nil {
				break
			}
			if err := l.acknowledge(doubt); err != nil {
				t.Fatal(err)
			}
			doubt = nil
			if l.random.IntN(30) == 0 { // the power may be lost in Close, too
				if store.Close() != nil {
					break
				}
				if store, err = openFile(t.Context(), store.path, option); err != nil {
					break
				}
			}
		}
		if store != nil {
			_ = store.Close() // it fails without power
		}
	}
	d.mu.Lock()
	off := d.off
	d.off = true
	d.mu.Unlock()
	if !off {
		t.Fatalf("stopped before the power was lost: %v", err)
	}
	left = t.TempDir()
	if err := d.leave(left, l.random); err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile(filepath.Join(dir, "sagas.db-lock")) // it is written before anything that it is about
	if err == nil {
		err = os.WriteFile(filepath.Join(left, "sagas.db-lock"), lock, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return left, doubt
}

// TestPowerLoss loses power a hundred times, at random operations. Some of what was not synced is lost. Each time,
// everything that was acknowledged is stored, and the store can be written.
func TestPowerLoss(t *testing.T) {
	rounds, losses := 4, 25
	if testing.Short() {
		rounds, losses = 1, 5
	}
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			l := newLedger(seed)
			dir := t.TempDir()
			for loss := range losses {
				left, doubt := losePower(t, l, dir, "PRAGMA wal_autocheckpoint = 12")
				_, option := newDisk(t) // for speed, since it never syncs
				store := openAt(t, filepath.Join(left, "sagas.db"), option)
				if err := l.audit(t, store, doubt); err != nil {
					t.Fatalf("after loss %d: %v", loss+1, err)
				}
				if err := store.Close(); err != nil {
					t.Fatal(err)
				}
				dir = left
			}
		})
	}
}

// TestPowerLossIsNoticed is the control: without syncs, the same test finds that something is lost.
func TestPowerLossIsNoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("the control of a test that -short shortens")
	}
	for seed := range uint64(100) {
		l := newLedger(seed)
		left, doubt := losePower(t, l, t.TempDir(), "PRAGMA synchronous = OFF")
		store, err := Open(t.Context(), filepath.Join(left, "sagas.db"), journal.Opening{})
		if err == nil {
			err = errors.Join(l.audit(t, store, doubt), store.Close())
		}
		if err != nil {
			return
		}
	}
	t.Error("power was lost a hundred times without a sync, and nothing was missing")
}

// TestFullAndFailingDisk fails the disk at some of the operations of a few appends. A stride of 1 fails each of them,
// and takes minutes. The append returns the right error, nothing that was acknowledged is lost, and the store can be
// used as soon as the disk can.
func TestFullAndFailingDisk(t *testing.T) {
	for _, cause := range []struct {
		err    error
		want   error
		stride int
	}{
		{syscall.ENOSPC, journal.ErrFull, 17}, {syscall.EDQUOT, journal.ErrFull, 97},
		{syscall.EIO, sqlite3.IOERR, 29}, {syscall.EROFS, journal.ErrReadOnly, 41},
	} {
		if testing.Short() {
			cause.stride *= 30
		}
		for _, done := range []bool{false, true} {
			for _, lasting := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/done=%v/lasting=%v", cause.err, done, lasting), func(t *testing.T) {
					failed := 0
					for at := 1; ; at += cause.stride {
						struck, failures := failAt(t, at, fault{err: cause.err, done: done}, lasting, cause.want)
						failed += failures
						if !struck {
							break
						}
					}
					if failed == 0 {
						t.Error("no append failed")
					}
				})
			}
		}
	}
}

// failAt fails one operation, counted from when the store is open, or that one and all after it.
func failAt(t *testing.T, at int, how fault, lasting bool, want error) (struck bool, failures int) {
	t.Helper()
	l := newLedger(1)
	d, option := newDisk(t)
	path := filepath.Join(t.TempDir(), "sagas.db")
	store := openAt(t, path, option)
	if err := store.writer.conn.Exec("PRAGMA wal_autocheckpoint = 12"); err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	opened := d.count
	d.fault = func(op operation) fault {
		if op.number == opened+at || lasting && op.number > opened+at {
			struck = true
			return how
		}
		return fault{}
	}
	d.mu.Unlock()
	for range 8 {
		group := l.group()
		err := store.Append(t.Context(), group)
		if err == nil {
			if err := l.acknowledge(group); err != nil {
				t.Fatal(err)
			}
			continue
		}
		failures++
		if !errors.Is(err, want) {
			t.Fatalf("operation %d: the error is %v, want %v", at, err, want)
		}
		if err := l.audit(t, store, group); err != nil {
			t.Fatalf("operation %d, then reading: %v", at, err)
		}
	}
	d.mu.Lock()
	d.fault = nil
	d.mu.Unlock()
	group := l.group()
	if err := store.Append(t.Context(), group); err != nil {
		t.Fatalf("operation %d, then without faults: %v", at, err)
	}
	if err := l.acknowledge(group); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatalf("operation %d, then closing: %v", at, err)
	}
	store = openAt(t, path, option)
	if err := l.audit(t, store, nil); err != nil {
		t.Fatalf("operation %d, then reopened: %v", at, err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	return struck, failures
}
