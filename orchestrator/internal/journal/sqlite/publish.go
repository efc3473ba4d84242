package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ncruces/go-sqlite3"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// wakeQuery makes the sagas due that await an event of one type and subject at one position. The event is the newest one, so that it is behind
// the creation of every saga.
const wakeQuery = `UPDATE sagas SET due = min(ifnull(due, ?4), ?4)
	WHERE key IN (SELECT saga FROM awaits WHERE subject = ?1 AND type = ?2 AND after < ?3) AND state = 1 RETURNING id`

// hasAwaitQuery says whether anyone awaits an event of one type and subject. Asking that first is cheap, and most events nobody awaits.
const hasAwaitQuery = `SELECT 1 FROM awaits WHERE subject = ? AND type = ? LIMIT 1`

// hasEventQuery finds an event of one type and subject behind a position.
const hasEventQuery = `SELECT 1 FROM events WHERE subject = ? AND type = ? AND position > ? LIMIT 1`

// publish writes an entry's events, unless its turn was refused, and wakes those who await them.
func (w *writer) publish(entry *journal.Entry) error {
	for _, event := range entry.Events {
		event.Position, event.Err = 0, nil
	}
	if entry.Err != nil {
		return nil //nolint:nilerr // the entry has the error
	}
	before, refused := w.newest, false
	for _, event := range entry.Events {
		if err := w.addEvent(event); err != nil {
			return fmt.Errorf("publish event %s of %s: %w", event.ID, event.Source, err)
		}
		refused = refused || event.Err != nil
	}
	if refused && entry.Saga == "" {
		return w.takeBack(before, entry)
	}
	for _, event := range entry.Events {
		if event.Position > uint64(before) && event.Err == nil {
			if err := w.wake(event, entry); err != nil {
				return fmt.Errorf("wake who awaits event %s of %s: %w", event.ID, event.Source, err)
			}
		}
	}
	if len(entry.Woken) > 1 {
		slices.Sort(entry.Woken)
		entry.Woken = slices.Compact(entry.Woken)
	}
	return nil
}

// addEvent writes an event, unless it is there.
func (w *writer) addEvent(event *journal.Event) error {
	kind, err := w.types.key(w.conn, event.Type)
	if err != nil {
		return err
	}
	position := w.newest + 1
	if err := run(w.insertEvent, position, event.Source, event.ID, kind, event.Subject, event.Time.UnixMicro(), event.StoreTime.UnixMicro(), event.Data); err != nil {
		return err
	}
	if w.conn.Changes() > 0 {
		w.newest, event.Position = position, uint64(position)
		return nil
	}
	stmt := w.findEvent
	if err := bind(stmt, event.Source, event.ID); err != nil {
		return err
	}
	if stmt.Step() {
		event.Position = uint64(stmt.ColumnInt64(0))
		if stmt.ColumnInt64(1) != kind || stmt.ColumnText(2) != event.Subject || !bytes.Equal(stmt.ColumnRawBlob(3), event.Data) {
			event.Err = fmt.Errorf("event %s of %s with another type, subject or data: %w", event.ID, event.Source, journal.ErrExists)
		}
	}
	return errors.Join(stmt.Err(), stmt.Reset())
}

// takeBack deletes the events that an entry has written, which it may only write as a whole.
func (w *writer) takeBack(before int64, entry *journal.Entry) error {
	if err := run(w.deleteEvents, before+1, w.newest); err != nil {
		return fmt.Errorf("take events back: %w", err)
	}
	w.newest = before
	for _, event := range entry.Events {
		if event.Position > uint64(before) {
			event.Position = 0
		}
		if event.Err != nil && entry.Err == nil {
			entry.Err = fmt.Errorf("of %d events none was published: %w", len(entry.Events), event.Err)
		}
	}
	return nil
}

// wake makes those due who await an event that was just written.
func (w *writer) wake(event *journal.Event, entry *journal.Entry) error {
	if event.Subject == "" {
		return nil // nobody can await it
	}
	kind, err := w.types.key(w.conn, event.Type)
	if err != nil {
		return err
	}
	if awaited, err := isThere(w.hasAwait, event.Subject, kind); err != nil || !awaited {
		return err
	}
	stmt := w.wakeSagas
	if err := bind(stmt, event.Subject, kind, int64(event.Position), event.StoreTime.UnixMicro()); err != nil {
		return err
	}
	for stmt.Step() {
		entry.Woken = append(entry.Woken, stmt.ColumnText(0))
	}
	return errors.Join(stmt.Err(), stmt.Reset())
}

// await replaces a saga's awaits by those of the row that was just written, and wakes the saga if one of their events is there.
func (w *writer) await(at *position, entry *journal.Entry) error {
	if at.awaits {
		if err := run(w.deleteAwaits, at.key); err != nil {
			return fmt.Errorf("delete the awaits of saga %s: %w", entry.Saga, err)
		}
	}
	row, there := entry.Row, false
	at.awaits = len(row.Awaits) > 0
	for i, await := range row.Awaits {
		kind, err := w.types.key(w.conn, await.Type)
		if err != nil {
			return err
		}
		if err := run(w.insertAwait, at.key, int64(i), kind, await.Subject, signed(await.After)); err != nil {
			return fmt.Errorf("add await %d of saga %s: %w", i, entry.Saga, err)
		}
		if behind := max(signed(await.After), at.created); !there && behind < w.newest {
			if there, err = isThere(w.hasEvent, await.Subject, kind, behind); err != nil {
				return fmt.Errorf("find what saga %s awaits: %w", entry.Saga, err)
			}
		}
	}
	if !there || row.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		return nil
	}
	if err := run(w.wakeSaga, at.key, row.UpdateTime.UnixMicro()); err != nil {
		return fmt.Errorf("wake saga %s: %w", entry.Saga, err)
	}
	entry.Woken = append(entry.Woken, entry.Saga)
	return nil
}

// isThere says whether a query finds anything.
func isThere(stmt *sqlite3.Stmt, args ...any) (bool, error) {
	if err := bind(stmt, args...); err != nil {
		return false, err
	}
	there := stmt.Step()
	return there, errors.Join(stmt.Err(), stmt.Reset())
}

// signed is a position as SQLite stores it; none is greater.
func signed(position uint64) int64 {
	return int64(min(position, math.MaxInt64))
}
