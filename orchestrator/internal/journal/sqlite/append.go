package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Append implements journal.Store. It writes the group in one transaction, which is on disk before Append returns nil.
func (s *Store) Append(ctx context.Context, group []*journal.Entry) error {
	for _, entry := range group {
		if err := entry.Validate(); err != nil {
			return fmt.Errorf("append to the store %s: %w", s.path, err)
		}
	}
	if len(group) == 0 {
		return nil
	}
	if err := s.acquireWriter(ctx); err != nil {
		return fmt.Errorf("append to the store %s: %w", s.path, err)
	}
	defer s.releaseWriter()
	return s.wrap(ctx, "append", s.writer.append(group))
}

// maxDamaged is the maximum number of damaged sagas that append leaves out of a group. With more, the group fails.
const maxDamaged = 16

// append writes a group. An entry whose saga can't be read is left out and gets an ErrCorrupt, so that the others are
// written.
func (w *writer) append(group []*journal.Entry) error {
	var damaged map[*journal.Entry]error
	w.lastTurn = 0
	for {
		at, err := w.appendExcept(group, damaged)
		if err == nil {
			break
		}
		cause, _ := diagnose(err)
		if at == nil || !errors.Is(cause, journal.ErrCorrupt) || len(damaged) == min(maxDamaged, len(group)-1) {
			return err
		}
		if damaged == nil {
			damaged = make(map[*journal.Entry]error)
		}
		damaged[at] = fmt.Errorf("turn %d of saga %s: %w: %w", at.Turn, at.Saga, cause, err)
	}
	for entry, err := range damaged {
		entry.Err, entry.Woken = err, nil
	}
	if w.mark != nil {
		w.mark.write(marked{turn: w.lastTurn, event: w.newest})
	}
	return nil
}

// appendExcept writes a group without its damaged entries. It returns the entry that has failed, if it was one.
func (w *writer) appendExcept(
	group []*journal.Entry, damaged map[*journal.Entry]error,
) (failed *journal.Entry, err error) {
	w.uncached = w.uncached[:0]
	err = w.transaction(func() error {
		w.group++
		for _, entry := range group {
			if damaged != nil && damaged[entry] != nil {
				continue
			}
			if err := w.write(entry); err != nil {
				failed = entry
				return err
			}
		}
		return nil
	})
	if err != nil {
		for _, entry := range group {
			delete(w.sagas, entry.Saga)
		}
		return failed, err
	}
	for _, saga := range w.uncached {
		delete(w.sagas, saga)
	}
	return failed, nil
}

// write writes one entry, or sets its Err.
func (w *writer) write(entry *journal.Entry) error {
	entry.Err, entry.Woken = nil, nil
	if entry.Saga != "" {
		if err := w.writeTurn(entry); err != nil {
			return err
		}
	}
	if len(entry.Events) == 0 {
		return nil
	}
	return w.publish(entry)
}

// writeTurn writes the turn and the row of an entry.
func (w *writer) writeTurn(entry *journal.Entry) error {
	if entry.Turn == 1 {
		return w.create(entry)
	}
	at, err := w.position(entry.Saga)
	if err != nil {
		return err
	}
	if at == nil || at.last+1 != entry.Turn {
		entry.Err = fmt.Errorf("turn %d of saga %s: %w", entry.Turn, entry.Saga, journal.ErrConflict)
		return nil
	}
	if err := w.addTurn(at.key, entry); err != nil {
		return err
	}
	at.last = entry.Turn
	if entry.Row != nil {
		if err := w.update(at, entry); err != nil {
			return err
		}
	}
	if at.waiting {
		w.uncached = append(w.uncached, entry.Saga)
	}
	return nil
}

// update writes the row of an existing saga.
func (w *writer) update(at *position, entry *journal.Entry) error {
	row, stmt := entry.Row, w.updateSaga
	err := errors.Join(
		stmt.BindInt64(1, at.key), stmt.BindInt64(2, int64(row.State)), stmt.BindInt64(3, row.UpdateTime.UnixMicro()),
		bindTime(stmt, 4, row.EndTime), bindTime(stmt, 5, row.Due), stmt.BindBool(6, row.Waiting),
		stmt.BindInt64(7, int64(row.Suspension)), stmt.BindInt64(8, int64(row.Revision)))
	if err == nil {
		err = stmt.Exec()
	}
	if err != nil {
		return fmt.Errorf("update saga %s: %w", entry.Saga, err)
	}
	if at.waiting = row.Waiting; journal.Final(row.State) {
		w.uncached = append(w.uncached, entry.Saga)
	}
	if entry.NewRound {
		if err := w.restartJournal(at, entry); err != nil {
			return err
		}
	}
	if at.awaits || len(row.Awaits) > 0 {
		return w.await(at, entry)
	}
	return nil
}

// restartJournal deletes the turns before the entry's turn.
func (w *writer) restartJournal(at *position, entry *journal.Entry) error {
	if err := run(w.setFirstTurn, at.key, int64(entry.Turn)); err != nil {
		return fmt.Errorf("set the first turn of saga %s: %w", entry.Saga, err)
	}
	if err := run(w.deleteTurns, at.key, int64(entry.Turn)-1); err != nil {
		return fmt.Errorf("delete the earlier turns of saga %s: %w", entry.Saga, err)
	}
	return nil
}

// wasPurged returns whether a saga was purged whose id may not be used again.
func (w *writer) wasPurged(saga string) (bool, error) {
	if !w.hasPurged {
		return false, nil
	}
	stmt := w.isPurged
	if err := stmt.BindText(1, saga); err != nil {
		return false, fmt.Errorf("find the purged saga %s: %w", saga, err)
	}
	purged := stmt.Step()
	if err := errors.Join(stmt.Err(), stmt.Reset()); err != nil {
		return false, fmt.Errorf("find the purged saga %s: %w", saga, err)
	}
	return purged, nil
}

// create writes a saga's row and its first turn, or sets the entry's Err.
//
// The row is inserted with VALUES. SQLite would copy each page that an INSERT with a SELECT changes, so that it can
// undo the rows that were inserted before one that fails.
func (w *writer) create(entry *journal.Entry) error {
	row := entry.Row
	purged, err := w.wasPurged(entry.Saga)
	if err != nil {
		return err
	}
	if purged {
		entry.Err = fmt.Errorf("saga %s: %w", entry.Saga, journal.ErrPurged)
		return nil
	}
	definition, err := w.definitions.key(w.conn, row.Definition)
	if err != nil {
		return err
	}
	created, err := w.createdAt(entry.Saga)
	if err != nil {
		return err
	}
	key, stmt := w.nextKey, w.insertSaga
	err = errors.Join(
		stmt.BindInt64(1, key), stmt.BindText(2, entry.Saga), stmt.BindInt64(3, definition),
		stmt.BindInt64(4, int64(row.State)), stmt.BindInt64(12, int64(row.Suspension)),
		stmt.BindInt64(18, int64(row.Revision)),
		stmt.BindInt64(5, row.CreateTime.UnixMicro()), stmt.BindInt64(6, row.UpdateTime.UnixMicro()),
		bindTime(stmt, 7, row.EndTime), bindTime(stmt, 8, row.Due), bindLabels(stmt, 9, row.Labels),
		stmt.BindBool(10, row.Waiting), stmt.BindInt64(11, created), bindParent(stmt, 13, row.Parent),
		bindOptional(stmt, 16, row.RequestID), bindUndoer(stmt, 17, row))
	if err == nil {
		err = stmt.Exec()
	}
	if err != nil {
		return fmt.Errorf("create saga %s: %w", entry.Saga, err)
	}
	if w.conn.Changes() == 0 {
		entry.Err = fmt.Errorf("saga %s: %w", entry.Saga, journal.ErrExists)
		return nil
	}
	w.nextKey++
	if err := w.removeLost(entry.Saga); err != nil {
		return err
	}
	if err := w.addTurn(key, entry); err != nil {
		return err
	}
	for label, value := range row.Labels {
		stmt := w.insertLabel
		err := errors.Join(stmt.BindText(1, label), stmt.BindText(2, value), stmt.BindInt64(3, key))
		if err == nil {
			err = stmt.Exec()
		}
		if err != nil {
			return fmt.Errorf("label saga %s: %w", entry.Saga, err)
		}
	}
	at := &position{key: key, last: 1, created: created, waiting: row.Waiting}
	w.cache(entry.Saga, at)
	if row.Waiting || journal.Final(row.State) {
		w.uncached = append(w.uncached, entry.Saga)
	}
	if len(row.Awaits) > 0 {
		return w.await(at, entry)
	}
	return nil
}

func (w *writer) addTurn(key int64, entry *journal.Entry) error {
	stmt := w.insertTurn
	position := key<<turnBits | int64(entry.Turn)
	err := errors.Join(stmt.BindInt64(1, position), bindData(stmt, 2, entry.Data),
		stmt.BindInt64(3, checksum(position, entry.Data)), bindTime(stmt, 4, entry.Time))
	if err == nil {
		err = stmt.Exec()
	}
	if err != nil {
		return fmt.Errorf("add turn %d of saga %s: %w", entry.Turn, entry.Saga, err)
	}
	w.lastTurn = position
	return nil
}

// position returns the position of a saga's journal, or nil if there is no such saga.
func (w *writer) position(saga string) (*position, error) {
	if at := w.sagas[saga]; at != nil {
		return at, nil
	}
	stmt := w.findSaga
	if err := stmt.BindText(1, saga); err != nil {
		return nil, fmt.Errorf("find saga %s: %w", saga, err)
	}
	var at *position
	if stmt.Step() {
		at = &position{
			key: stmt.ColumnInt64(0), last: uint64(stmt.ColumnInt64(1)) & (1<<turnBits - 1),
			created: stmt.ColumnInt64(2), waiting: stmt.ColumnBool(3), awaits: stmt.ColumnBool(4),
		}
	}
	if err := errors.Join(stmt.Err(), stmt.Reset()); err != nil {
		return nil, fmt.Errorf("find saga %s: %w", saga, err)
	}
	if at != nil {
		w.cache(saga, at)
	}
	return at, nil
}

// cache keeps the position of a saga's journal. If the cache is full, a random saga leaves it.
func (w *writer) cache(saga string, at *position) {
	if len(w.sagas) >= maxCached {
		for other, position := range w.sagas {
			if position.group != w.group {
				delete(w.sagas, other)
				break
			}
		}
	}
	at.group = w.group
	w.sagas[saga] = at
}
