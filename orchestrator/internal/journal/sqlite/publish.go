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

// wakeQuery makes the sagas due that await an event of a type and subject at a position. The event is the newest one,
// so it was published after every saga was created.
const wakeQuery = `UPDATE sagas SET due = min(ifnull(due, ?4), ?4)
	WHERE key IN (SELECT saga FROM awaits WHERE subject = ?1 AND type = ?2 AND after < ?3) AND state = 1 RETURNING id`

// hasAwaitQuery finds out whether a saga awaits an event of a type and subject. It is cheap, and most events aren't
// awaited.
const hasAwaitQuery = `SELECT 1 FROM awaits WHERE subject = ? AND type = ? LIMIT 1`

// hasEventQuery finds an event of a type and subject after a position.
const hasEventQuery = `SELECT 1 FROM events WHERE subject = ? AND type = ? AND position > ? LIMIT 1`

// publish writes the events of an entry, unless its turn was refused, and wakes the sagas that await them.
func (w *writer) publish(entry *journal.Entry) error {
	for _, event := range entry.Events {
		event.Position, event.Err = 0, nil
	}
	if entry.Err != nil {
		return nil //nolint:nilerr // The entry has the error.
	}
	before, refused := w.newest, false
	for _, event := range entry.Events {
		if err := w.addEvent(event); err != nil {
			return fmt.Errorf("publish event %s of %s: %w", event.ID, event.Source, err)
		}
		refused = refused || event.Err != nil
	}
	if refused && entry.Saga == "" {
		return w.discardEvents(before, entry)
	}
	for _, event := range entry.Events {
		if event.Position > uint64(before) && event.Err == nil {
			if err := w.wake(event, entry); err != nil {
				return fmt.Errorf("wake the sagas that await event %s of %s: %w", event.ID, event.Source, err)
			}
		}
	}
	if len(entry.Woken) > 1 {
		slices.Sort(entry.Woken)
		entry.Woken = slices.Compact(entry.Woken)
	}
	return nil
}

// addEvent writes an event, unless it is stored already.
func (w *writer) addEvent(event *journal.Event) error {
	if past, err := w.pastEvent(event); err != nil || past {
		return err
	}
	kind, err := w.types.key(w.conn, event.Type)
	if err != nil {
		return err
	}
	position := w.newest + 1
	err = run(w.insertEvent, position, event.Source, event.ID, kind, event.Subject,
		event.Time.UnixMicro(), event.StoreTime.UnixMicro(), event.Data, optional(event.Publisher))
	if err != nil {
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
		same := stmt.ColumnInt64(1) == kind && stmt.ColumnText(2) == event.Subject
		if journal.Foreign(stmt.ColumnText(4), event.Publisher) {
			event.Err = foreignEvent(event)
		} else if !same || !bytes.Equal(stmt.ColumnRawBlob(3), event.Data) {
			event.Err = fmt.Errorf("event %s of %s, with another type, subject or data: %w",
				event.ID, event.Source, journal.ErrExists)
		}
	}
	return errors.Join(stmt.Err(), stmt.Reset())
}

// foreignEvent returns the error of an event that another principal has published.
func foreignEvent(event *journal.Event) error {
	return fmt.Errorf("event %s of %s: %w: %w", event.ID, event.Source, journal.ErrForeign, journal.ErrExists)
}

// discardEvents deletes the events that an entry has written. The entry only publishes events, so all are written or
// none.
func (w *writer) discardEvents(before int64, entry *journal.Entry) error {
	if err := run(w.deleteEvents, before+1, w.newest); err != nil {
		return fmt.Errorf("discard events: %w", err)
	}
	w.newest = before
	for _, event := range entry.Events {
		if event.Position > uint64(before) {
			event.Position = 0
		}
		if event.Err != nil && entry.Err == nil {
			entry.Err = fmt.Errorf("none of %d events was published: %w", len(entry.Events), event.Err)
		}
	}
	return nil
}

// wake makes the sagas due that await an event that was just written.
func (w *writer) wake(event *journal.Event, entry *journal.Entry) error {
	if event.Subject == "" {
		return nil // it can't be awaited
	}
	kind, err := w.types.key(w.conn, event.Type)
	if err != nil {
		return err
	}
	if awaited, err := exists(w.hasAwait, event.Subject, kind); err != nil || !awaited {
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

// await replaces the awaits of a saga by those of the row that was just written, and wakes the saga if one of their
// events is stored already.
func (w *writer) await(at *position, entry *journal.Entry) error {
	if at.awaits {
		if err := run(w.deleteAwaits, at.key); err != nil {
			return fmt.Errorf("delete the awaits of saga %s: %w", entry.Saga, err)
		}
	}
	row, found := entry.Row, false
	at.awaits = len(row.Awaits) > 0
	for i, await := range row.Awaits {
		kind, err := w.types.key(w.conn, await.Type)
		if err != nil {
			return err
		}
		if err := run(w.insertAwait, at.key, int64(i), kind, await.Subject, signed(await.After)); err != nil {
			return fmt.Errorf("add await %d of saga %s: %w", i, entry.Saga, err)
		}
		if after := max(signed(await.After), at.created); !found && after < w.newest {
			if found, err = exists(w.hasEvent, await.Subject, kind, after); err != nil {
				return fmt.Errorf("find the event of await %d of saga %s: %w", i, entry.Saga, err)
			}
		}
	}
	if !found || row.State != treatyv1.SagaState_SAGA_STATE_RUNNING {
		return nil
	}
	if err := run(w.wakeSaga, at.key, row.UpdateTime.UnixMicro()); err != nil {
		return fmt.Errorf("wake saga %s: %w", entry.Saga, err)
	}
	entry.Woken = append(entry.Woken, entry.Saga)
	return nil
}

// exists returns whether a query has a row.
func exists(stmt *sqlite3.Stmt, args ...any) (bool, error) {
	if err := bind(stmt, args...); err != nil {
		return false, err
	}
	found := stmt.Step()
	return found, errors.Join(stmt.Err(), stmt.Reset())
}

// signed converts a position to SQLite's integers. No stored position is greater than the result.
func signed(position uint64) int64 {
	return int64(min(position, math.MaxInt64))
}
