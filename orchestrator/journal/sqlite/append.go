package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/treatyhq/treaty/orchestrator/journal"
)

// Append writes a group of turns as one transaction, which is on the disk before it returns nil. The errors are ErrInvalid and ErrClosed, with
// which nothing was written, ErrFull, ErrReadOnly, and what SQLite and the disk say.
func (s *Store) Append(ctx context.Context, group []*journal.Entry) error {
	for _, entry := range group {
		if err := entry.Validate(); err != nil {
			return fmt.Errorf("append to the store %s: %w", s.path, err)
		}
	}
	if len(group) == 0 {
		return nil
	}
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("append to the store %s: %w", s.path, err)
	}
	defer s.leave()
	return s.fail(ctx, "append", s.writer.append(group))
}

// append writes a group. A transaction once begun is brought to its end whatever becomes of the caller.
func (w *writer) append(group []*journal.Entry) (err error) {
	if w.broken != nil {
		return w.broken
	}
	defer func() {
		if errors.Is(err, errBroken) {
			w.broken = err
		}
	}()
	defer rescue(&err)
	if err := w.begin.Exec(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	w.group++
	for _, entry := range group {
		if err := w.write(entry); err != nil {
			return w.undo(group, err)
		}
	}
	if err := w.commit.Exec(); err != nil {
		return w.undo(group, fmt.Errorf("commit: %w", err))
	}
	for _, entry := range group {
		if entry.Err == nil && entry.Row != nil && journal.Final(entry.Row.State) {
			delete(w.sagas, entry.Saga)
		}
	}
	return nil
}

// undo rolls back and forgets what the writer remembered of the group.
func (w *writer) undo(group []*journal.Entry, cause error) error {
	for _, entry := range group {
		delete(w.sagas, entry.Saga)
	}
	clear(w.definitions)
	if w.conn.GetAutocommit() {
		return cause // SQLite has rolled back by itself
	}
	if err := w.rollback.Exec(); err != nil {
		return errors.Join(cause, fmt.Errorf("roll back: %w", err))
	}
	return cause
}

// write writes one entry, or sets why it can't be.
func (w *writer) write(entry *journal.Entry) error {
	entry.Err = nil
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
	if entry.Row == nil {
		return nil
	}
	row := entry.Row
	err = errors.Join(
		w.updateSaga.BindInt64(1, at.key), w.updateSaga.BindInt64(2, int64(row.State)), w.updateSaga.BindInt64(3, row.UpdateTime.UnixMicro()),
		bindTime(w.updateSaga, 4, row.EndTime), bindTime(w.updateSaga, 5, row.Due))
	if err != nil {
		return fmt.Errorf("update saga %s: %w", entry.Saga, err)
	}
	if err := w.updateSaga.Exec(); err != nil {
		return fmt.Errorf("update saga %s: %w", entry.Saga, err)
	}
	return nil
}

// create writes a saga's row and its first turn.
func (w *writer) create(entry *journal.Entry) error {
	row := entry.Row
	definition, err := w.definition(row.Definition)
	if err != nil {
		return err
	}
	key, stmt := w.nextKey, w.insertSaga
	err = errors.Join(
		stmt.BindInt64(1, key), stmt.BindText(2, entry.Saga), stmt.BindInt64(3, definition), stmt.BindInt64(4, int64(row.State)),
		stmt.BindInt64(5, row.CreateTime.UnixMicro()), stmt.BindInt64(6, row.UpdateTime.UnixMicro()),
		bindTime(stmt, 7, row.EndTime), bindTime(stmt, 8, row.Due), bindLabels(stmt, 9, row.Labels))
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
	if err := w.addTurn(key, entry); err != nil {
		return err
	}
	for label, value := range row.Labels {
		err := errors.Join(w.insertLabel.BindText(1, label), w.insertLabel.BindText(2, value), w.insertLabel.BindInt64(3, key))
		if err == nil {
			err = w.insertLabel.Exec()
		}
		if err != nil {
			return fmt.Errorf("label saga %s: %w", entry.Saga, err)
		}
	}
	w.remember(entry.Saga, &position{key: key, last: 1, group: w.group})
	return nil
}

func (w *writer) addTurn(key int64, entry *journal.Entry) error {
	err := w.insertTurn.BindInt64(1, key<<turnBits|int64(entry.Turn))
	if len(entry.Data) == 0 {
		err = errors.Join(err, w.insertTurn.BindZeroBlob(2, 0))
	} else {
		err = errors.Join(err, w.insertTurn.BindBlob(2, entry.Data))
	}
	if err == nil {
		err = w.insertTurn.Exec()
	}
	if err != nil {
		return fmt.Errorf("add turn %d of saga %s: %w", entry.Turn, entry.Saga, err)
	}
	return nil
}

// position finds where a saga stands; nil when there is none.
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
		at = &position{key: stmt.ColumnInt64(0), last: uint64(stmt.ColumnInt64(1)) & (1<<turnBits - 1)}
	}
	if err := errors.Join(stmt.Err(), stmt.Reset()); err != nil {
		return nil, fmt.Errorf("find saga %s: %w", saga, err)
	}
	if at != nil {
		w.remember(saga, at)
	}
	return at, nil
}

// remember keeps where a saga stands, making room at random when there is none.
func (w *writer) remember(saga string, at *position) {
	if len(w.sagas) >= maxCached {
		for other, stands := range w.sagas {
			if stands.group != w.group {
				delete(w.sagas, other)
				break
			}
		}
	}
	at.group = w.group
	w.sagas[saga] = at
}

// definition returns the key of a definition's name, giving it one when it is new.
func (w *writer) definition(name string) (int64, error) {
	if key, known := w.definitions[name]; known {
		return key, nil
	}
	stmt := w.findDefinition
	if err := stmt.BindText(1, name); err != nil {
		return 0, fmt.Errorf("find definition %s: %w", name, err)
	}
	found := stmt.Step()
	key := stmt.ColumnInt64(0)
	if err := errors.Join(stmt.Err(), stmt.Reset()); err != nil {
		return 0, fmt.Errorf("find definition %s: %w", name, err)
	}
	if !found {
		err := w.insertDefinition.BindText(1, name)
		if err == nil {
			err = w.insertDefinition.Exec()
		}
		if err != nil {
			return 0, fmt.Errorf("add definition %s: %w", name, err)
		}
		key = w.conn.LastInsertRowID()
	}
	w.definitions[name] = key
	return key, nil
}

// binder is a statement that takes values.
type binder interface {
	BindNull(param int) error
	BindInt64(param int, value int64) error
	BindText(param int, value string) error
}

func bindTime(stmt binder, param int, t time.Time) error {
	if t.IsZero() {
		return stmt.BindNull(param) //nolint:wrapcheck // the caller says what it was for
	}
	return stmt.BindInt64(param, t.UnixMicro()) //nolint:wrapcheck // the caller says what it was for
}

func bindLabels(stmt binder, param int, labels map[string]string) error {
	if len(labels) == 0 {
		return stmt.BindNull(param) //nolint:wrapcheck // the caller says what it was for
	}
	data, err := json.Marshal(labels)
	if err != nil {
		return fmt.Errorf("write labels: %w", err)
	}
	return stmt.BindText(param, string(data)) //nolint:wrapcheck // the caller says what it was for
}
