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

// What one transaction deletes at the most, so that appends wait some milliseconds. A saga that alone has more turns is deleted as a whole.
const (
	purgeSagas  = 64
	purgeTurns  = 4096
	purgeEvents = 512
)

// endedQuery finds the sagas of one definition that ended before a time, longest ago first.
const endedQuery = `SELECT key, id, labels FROM sagas
	WHERE state >= 4 AND definition = (SELECT key FROM definitions WHERE name = ?1) AND end_time < ?2 ORDER BY end_time LIMIT ?3`

// Purge deletes sagas that have ended. SQLite uses their room in the file again.
func (s *Store) Purge(ctx context.Context, params journal.PurgeParams) (int, error) {
	if err := journal.ValidateLimit(params.Limit); err != nil {
		return 0, fmt.Errorf("purge sagas in the store %s: %w", s.path, err)
	}
	return s.inSteps(ctx, "purge sagas", params.Limit, func(w *writer, limit int) (int, error) {
		return w.purge(&params, min(limit, purgeSagas))
	})
}

// PurgeEvents deletes events that were published before a time. SQLite uses their room in the file again.
func (s *Store) PurgeEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := journal.ValidateLimit(limit); err != nil {
		return 0, fmt.Errorf("purge events in the store %s: %w", s.path, err)
	}
	return s.inSteps(ctx, "purge events", limit, func(w *writer, limit int) (int, error) {
		return w.purgeEvents(before, min(limit, purgeEvents))
	})
}

// inSteps deletes in transactions of their own until there is nothing left or the limit is reached, and counts what was committed.
func (s *Store) inSteps(ctx context.Context, doing string, limit int, step func(w *writer, limit int) (int, error)) (int, error) {
	for deleted := 0; ; {
		n := 0
		err := s.write(ctx, doing, func(w *writer) (err error) {
			n, err = step(w, limit-deleted)
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

// ended is a saga that is to be deleted.
type ended struct {
	key    int64
	id     string
	labels map[string]string
}

func (w *writer) purge(params *journal.PurgeParams, limit int) (int, error) {
	deleted, turns := 0, int64(0)
	for _, definition := range params.Definitions {
		found, err := w.ended(definition, params.EndedBefore, limit-deleted)
		if err != nil {
			return 0, fmt.Errorf("find ended sagas of %s: %w", definition, err)
		}
		for _, saga := range found {
			if err := w.delete(saga); err != nil {
				return 0, fmt.Errorf("delete saga %s: %w", saga.id, err)
			}
			turns += w.conn.Changes()
			if params.Remember != nil && params.Remember(saga.id) {
				if err := run(w.rememberPurged, saga.id); err != nil {
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
		one := ended{key: stmt.ColumnInt64(0), id: stmt.ColumnText(1)}
		if stmt.ColumnType(2) != sqlite3.NULL {
			if err = json.Unmarshal(stmt.ColumnRawText(2), &one.labels); err != nil {
				err = fmt.Errorf("%w: the labels of saga %s: %w", journal.ErrCorrupt, one.id, err)
			}
		}
		found = append(found, one)
	}
	return found, errors.Join(err, stmt.Err(), stmt.Reset())
}

// delete deletes a saga that has ended, its turns last.
func (w *writer) delete(saga ended) error {
	delete(w.sagas, saga.id) // a turn that came too late may have left it there
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
	if err := run(w.deleteEvents, int64(1), last); err != nil {
		return 0, fmt.Errorf("delete old events: %w", err)
	}
	return deleted, nil
}
