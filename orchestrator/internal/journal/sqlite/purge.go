package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// The maximum numbers that one transaction deletes, so that appends wait only a few milliseconds. A saga with more
// turns is still deleted at once.
const (
	purgeSagas  = 64
	purgeTurns  = 4096
	purgeEvents = 512
)

// endedQuery finds the sagas of a definition that ended before a time, the oldest first, without those whose parents
// may still send commands.
const endedQuery = `SELECT key, id, labels, iif(parent IS NULL OR parent_start IS NOT NULL, end_time, NULL) FROM sagas
	WHERE state >= 4 AND definition = (SELECT key FROM definitions WHERE name = ?1) AND end_time < ?2
		AND NOT ifnull(parent_start >= (SELECT ifnull(horizon, 0) FROM scopes WHERE scope = parent_scope), false)
	ORDER BY end_time LIMIT ?3`

// Purge implements journal.Store. SQLite reuses the space in the file.
func (s *Store) Purge(ctx context.Context, params journal.PurgeParams) (int, error) {
	if err := journal.ValidateLimit(params.Limit); err != nil {
		return 0, fmt.Errorf("purge sagas in the store %s: %w", s.path, err)
	}
	return s.inTransactions(ctx, "purge sagas", params.Limit, func(w *writer, limit int) (int, error) {
		return w.purge(&params, min(limit, purgeSagas))
	})
}

// purgeIDsQuery deletes the ids of the sagas that ended first.
const purgeIDsQuery = `DELETE FROM purged WHERE id IN
	(SELECT id FROM purged WHERE end_time IS NOT NULL AND end_time < ?1 ORDER BY end_time LIMIT ?2)`

// PurgeIDs implements journal.Store.
func (s *Store) PurgeIDs(ctx context.Context, endedBefore time.Time, limit int) (int, error) {
	if err := journal.ValidateLimit(limit); err != nil {
		return 0, fmt.Errorf("purge the ids of sagas in the store %s: %w", s.path, err)
	}
	return s.inTransactions(ctx, "purge the ids of sagas", limit, func(w *writer, limit int) (int, error) {
		err := execute(w.conn, purgeIDsQuery, endedBefore.UnixMicro(), int64(min(limit, purgeEvents)))
		return int(w.conn.Changes()), err
	})
}

// PurgeEvents implements journal.Store. SQLite reuses the space in the file.
func (s *Store) PurgeEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := journal.ValidateLimit(limit); err != nil {
		return 0, fmt.Errorf("purge events in the store %s: %w", s.path, err)
	}
	return s.inTransactions(ctx, "purge events", limit, func(w *writer, limit int) (int, error) {
		return w.purgeEvents(before, min(limit, purgeEvents))
	})
}

// inTransactions calls a function that deletes up to a limit, in one transaction each, until nothing is left or the
// limit is reached. It returns how many were deleted and committed.
func (s *Store) inTransactions(
	ctx context.Context, doing string, limit int, purge func(w *writer, limit int) (int, error),
) (int, error) {
	for deleted := 0; ; {
		n := 0
		err := s.write(ctx, doing, func(w *writer) (err error) {
			n, err = purge(w, limit-deleted)
			return err
		})
		if err != nil {
			return deleted, err
		}
		if deleted += n; n == 0 || deleted >= limit {
			return deleted, nil
		}
	}
}

// ended is a saga to delete.
type ended struct {
	key    int64
	id     string
	labels map[string]string

	forget time.Time // when it ended, or zero if its id is never deleted
}

func (w *writer) purge(params *journal.PurgeParams, limit int) (int, error) {
	deleted, turns := 0, int64(0)
	for _, definition := range params.Definitions {
		found, err := w.ended(definition, params.EndedBefore, limit-deleted)
		if err != nil {
			return 0, fmt.Errorf("find ended sagas of %s: %w", definition, err)
		}
		if len(found) > 0 {
			if err := w.mark.clear(); err != nil {
				return 0, err
			}
		}
		for _, saga := range found {
			if err := w.delete(saga); err != nil {
				return 0, fmt.Errorf("delete saga %s: %w", saga.id, err)
			}
			turns += w.conn.Changes()
			if params.Remember != nil && params.Remember(saga.id) {
				if err := run(w.rememberPurged, saga.id, saga.forget); err != nil {
					return 0, fmt.Errorf("remember saga %s: %w", saga.id, err)
				}
			}
			if deleted++; turns >= purgeTurns {
				return deleted, nil
			}
		}
		if deleted >= limit {
			break
		}
	}
	return deleted, nil
}

func (w *writer) ended(definition string, before time.Time, limit int) ([]ended, error) {
	stmt := w.findEnded
	if err := bind(stmt, definition, before.UnixMicro(), int64(limit)); err != nil {
		return nil, err
	}
	var found []ended
	var err error
	for err == nil && stmt.Step() {
		saga := ended{key: stmt.ColumnInt64(0), id: stmt.ColumnText(1)}
		if stmt.ColumnType(2) != sqlite3.NULL {
			if err = json.Unmarshal(stmt.ColumnRawText(2), &saga.labels); err != nil {
				err = fmt.Errorf("%w: the labels of saga %s: %w", journal.ErrCorrupt, saga.id, err)
			}
		}
		saga.forget = columnTime(stmt, 3)
		found = append(found, saga)
	}
	return found, errors.Join(err, stmt.Err(), stmt.Reset())
}

// delete deletes a saga that has ended, the turns last, so that Changes returns their number.
func (w *writer) delete(saga ended) error {
	delete(w.sagas, saga.id) // a late turn may have cached it
	for label, value := range saga.labels {
		if err := run(w.deleteLabel, label, value, saga.key); err != nil {
			return err
		}
	}
	if err := run(w.deleteSaga, saga.key); err != nil {
		return err
	}
	return run(w.deleteTurns, saga.key, int64(journal.MaxTurns))
}

func (w *writer) purgeEvents(before time.Time, limit int) (int, error) {
	stmt := w.oldestEvents
	if err := bind(stmt, w.newest, int64(limit)); err != nil {
		return 0, err
	}
	deleted, last := 0, int64(0)
	for stmt.Step() && stmt.ColumnInt64(1) < before.UnixMicro() {
		deleted++
		last = stmt.ColumnInt64(0)
	}
	if err := errors.Join(stmt.Err(), stmt.Reset()); err != nil {
		return 0, fmt.Errorf("find old events: %w", err)
	}
	if deleted == 0 {
		return 0, nil
	}
	if err := w.remember(last); err != nil {
		return 0, fmt.Errorf("remember the ids of old events: %w", err)
	}
	if err := run(w.deleteEvents, int64(1), last); err != nil {
		return 0, fmt.Errorf("delete old events: %w", err)
	}
	return deleted, nil
}
