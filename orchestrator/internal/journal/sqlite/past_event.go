package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// eventDigest identifies the content of an event.
func eventDigest(kind, subject string, data []byte) []byte {
	hash := sha256.New()
	fmt.Fprintf(hash, "%d %s %d %s ", len(kind), kind, len(subject), subject)
	hash.Write(data)
	return hash.Sum(nil)
}

// pastEvent finds out whether an event was published before and purged. It sets the event's position, and its Err if
// its content differs.
func (w *writer) pastEvent(event *journal.Event) (past bool, err error) {
	if !w.hasPast {
		return false, nil
	}
	stmt := w.findPast
	if err := bind(stmt, event.Source, event.ID); err != nil {
		return false, err
	}
	if past = stmt.Step(); past {
		event.Position = uint64(stmt.ColumnInt64(0))
		if journal.Foreign(stmt.ColumnText(2), event.Publisher) {
			event.Err = foreignEvent(event)
		} else if !bytes.Equal(stmt.ColumnRawBlob(1), eventDigest(event.Type, event.Subject, event.Data)) {
			event.Err = fmt.Errorf("event %s of %s, with another type, subject or data: %w", event.ID, event.Source,
				journal.ErrExists)
		}
	}
	return past, errors.Join(stmt.Err(), stmt.Reset())
}

// remember keeps the ids of the events up to a position, which are deleted next.
func (w *writer) remember(last int64) error {
	stmt := w.pastFrom
	if err := bind(stmt, last); err != nil {
		return err
	}
	for stmt.Step() {
		digest := eventDigest(stmt.ColumnText(3), stmt.ColumnText(4), stmt.ColumnRawBlob(5))
		if err := run(w.insertPast, stmt.ColumnInt64(0), stmt.ColumnText(1), stmt.ColumnText(2), stmt.ColumnInt64(6),
			digest, optional(stmt.ColumnText(7))); err != nil {
			return errors.Join(err, stmt.Reset())
		}
		w.hasPast = true
	}
	return errors.Join(stmt.Err(), stmt.Reset())
}

// PurgeEventIDs implements journal.Store.
func (s *Store) PurgeEventIDs(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := journal.ValidateLimit(limit); err != nil {
		return 0, fmt.Errorf("purge the ids of events in the store %s: %w", s.path, err)
	}
	return s.inTransactions(ctx, "purge the ids of events", limit, func(w *writer, limit int) (int, error) {
		return w.purgeEventIDs(before, min(limit, purgeEvents))
	})
}

func (w *writer) purgeEventIDs(before time.Time, limit int) (deleted int, err error) {
	last := int64(0)
	stmt, _, err := w.conn.Prepare(`SELECT position, store_time FROM past_events ORDER BY position LIMIT ?`)
	if err != nil {
		return 0, err
	}
	defer stmt.Close()
	if err := bind(stmt, int64(limit)); err != nil {
		return 0, err
	}
	for stmt.Step() && stmt.ColumnInt64(1) < before.UnixMicro() {
		deleted++
		last = stmt.ColumnInt64(0)
	}
	if err := errors.Join(stmt.Err(), stmt.Reset()); err != nil || deleted == 0 {
		return 0, err
	}
	return deleted, execute(w.conn, `DELETE FROM past_events WHERE position <= ?`, last)
}

// preparePast prepares what past events need.
func (w *writer) preparePast() error {
	for stmt, sql := range map[**sqlite3.Stmt]string{
		&w.findPast: `SELECT position, digest, publisher FROM past_events WHERE source = ? AND id = ?`,
		&w.insertPast: `INSERT INTO past_events (position, source, id, store_time, digest, publisher)
			VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		&w.pastFrom: `SELECT position, source, id, (SELECT name FROM event_types WHERE key = type), subject, data,
			store_time, publisher FROM events WHERE position <= ? ORDER BY position`,
	} {
		prepared, err := prepare(w.conn, sql)
		if err != nil {
			return err
		}
		*stmt = prepared
	}
	past, err := queryInt(w.conn, `SELECT EXISTS (SELECT 1 FROM past_events)`)
	w.hasPast = past != 0
	return err
}
