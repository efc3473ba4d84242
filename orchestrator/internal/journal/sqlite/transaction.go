package sqlite

import (
	"context"
	"errors"
	"fmt"
)

// write runs f alone on the writer, in a transaction that is on the disk when it returns nil.
func (s *Store) write(ctx context.Context, doing string, f func(*writer) error) error {
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("%s in the store %s: %w", doing, s.path, err)
	}
	defer s.leave()
	return s.fail(ctx, doing, s.writer.transaction(func() error { return f(s.writer) }))
}

// transaction commits what f does, or nothing of it. A transaction once begun is brought to its end whatever becomes of the caller.
func (w *writer) transaction(f func() error) (err error) {
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
	newest := w.newest
	if err := f(); err != nil {
		return w.undo(newest, err)
	}
	if err := w.commit.Exec(); err != nil {
		return w.undo(newest, fmt.Errorf("commit: %w", err))
	}
	return nil
}

// undo rolls back and forgets what the writer remembered of the transaction, but for the sagas.
func (w *writer) undo(newest int64, cause error) error {
	w.newest = newest
	clear(w.definitions.keys)
	clear(w.types.keys)
	if w.conn.GetAutocommit() {
		return cause // SQLite has rolled back by itself
	}
	if err := w.rollback.Exec(); err != nil {
		return errors.Join(cause, fmt.Errorf("roll back: %w", err))
	}
	return cause
}
