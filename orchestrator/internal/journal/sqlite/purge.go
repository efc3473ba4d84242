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

// endedQuery finds the sagas of a definition that ended before a time, the oldest first, without those whose ids begin
// with a text, those whose parents may still send commands, and those with a child that hasn't ended. endedApartQuery
// finds those that a saga of another store may compensate.
const (
	endedQuery      = endedColumns + ` AND s.undoer IS NULL` + endedConditions
	endedApartQuery = endedColumns + ` AND s.undoer = ''` + endedConditions

	endedColumns = `SELECT s.key, s.id, s.labels,
			iif(s.parent IS NULL OR s.parent_start IS NOT NULL, s.end_time, NULL)
		FROM sagas s WHERE s.state >= 4`
	endedConditions = ` AND s.definition = (SELECT key FROM definitions WHERE name = ?1) AND s.end_time < ?2
			AND (?4 = '' OR substr(s.id, 1, length(?4)) <> ?4)` + overConditions + `
		ORDER BY s.end_time LIMIT ?3`
	overConditions = ` AND NOT ifnull(
				s.parent_start >= (SELECT ifnull(horizon, 0) FROM scopes WHERE scope = s.parent_scope), false)
			AND NOT (EXISTS (SELECT 1 FROM sagas c WHERE c.undoer = s.id AND c.undoer > '') AND ` + familyIsOpen + `)`

	// endedSagaQuery finds one saga of these, whatever its definition and when it ended.
	endedSagaQuery = endedColumns + ` AND s.id = ?1 AND (s.undoer = ''
			OR s.undoer IS NULL AND (?2 = '' OR substr(s.id, 1, length(?2)) <> ?2))` + overConditions

	// familyIsOpen is whether a child of the saga s that it may compensate hasn't ended, or a child of that child.
	familyIsOpen = `EXISTS (
		WITH RECURSIVE family (id, state) AS (
			SELECT c.id, c.state FROM sagas c WHERE c.undoer = s.id AND c.undoer > ''
			UNION ALL
			SELECT c.id, c.state FROM family JOIN sagas c ON c.undoer = family.id AND c.undoer > ''
		) SELECT 1 FROM family WHERE state < 4)`

	// familyQuery finds the children that a saga may compensate. Their parent is in the same store, so that their ids
	// may be deleted some time after they ended.
	familyQuery = `SELECT c.key, c.id, c.labels, c.end_time FROM sagas c WHERE c.undoer = ?1 AND c.undoer > ''`
)

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
	if params.Saga != "" {
		found, err := w.ended(w.findEndedSaga, params.Saga, params.ExceptPrefix)
		if err != nil {
			return 0, fmt.Errorf("find the ended saga %s: %w", params.Saga, err)
		}
		deleted, _, err := w.deleteFamilies(found, params)
		return deleted, err
	}
	deleted, turns := 0, int64(0)
	find := w.findEnded
	if params.Compensated {
		find = w.findEndedApart
	}
	for _, definition := range params.Definitions {
		found, err := w.ended(find, definition, params.EndedBefore.UnixMicro(), int64(limit-deleted),
			params.ExceptPrefix)
		if err != nil {
			return 0, fmt.Errorf("find ended sagas of %s: %w", definition, err)
		}
		n, of, err := w.deleteFamilies(found, params)
		if err != nil {
			return 0, err
		}
		deleted, turns = deleted+n, turns+of
		if deleted >= limit || turns >= purgeTurns {
			break
		}
	}
	return deleted, nil
}

// deleteFamilies deletes sagas with their families, until purgeTurns turns are deleted. It returns how many sagas and
// turns it deleted.
func (w *writer) deleteFamilies(sagas []ended, params *journal.PurgeParams) (deleted int, turns int64, err error) {
	if len(sagas) > 0 {
		if err := w.mark.clear(); err != nil {
			return 0, 0, err
		}
	}
	for _, saga := range sagas {
		for family := []ended{saga}; len(family) > 0; deleted++ {
			children, err := w.delete(family[0], params.Remember)
			if err != nil {
				return 0, 0, fmt.Errorf("delete saga %s: %w", family[0].id, err)
			}
			turns += w.conn.Changes()
			family = append(family[1:], children...)
		}
		if turns >= purgeTurns {
			break
		}
	}
	return deleted, turns, nil
}

// ended returns the sagas that a statement with these arguments finds.
func (w *writer) ended(stmt *sqlite3.Stmt, args ...any) ([]ended, error) {
	if err := bind(stmt, args...); err != nil {
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

// delete deletes a saga that has ended, the turns last, so that Changes returns their number. It returns the children
// that must be deleted in the same transaction.
func (w *writer) delete(saga ended, remember func(id string) bool) (family []ended, err error) {
	delete(w.sagas, saga.id) // a late turn may have cached it
	for label, value := range saga.labels {
		if err := run(w.deleteLabel, label, value, saga.key); err != nil {
			return nil, err
		}
	}
	if family, err = w.ended(w.findFamily, saga.id); err != nil {
		return nil, fmt.Errorf("find its children: %w", err)
	}
	if err := run(w.deleteSaga, saga.key); err != nil {
		return nil, err
	}
	if remember != nil && remember(saga.id) {
		w.hasPurged = true
		if err := run(w.rememberPurged, saga.id, saga.forget); err != nil {
			return nil, fmt.Errorf("remember it: %w", err)
		}
	}
	return family, run(w.deleteTurns, saga.key, int64(journal.MaxTurns))
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
