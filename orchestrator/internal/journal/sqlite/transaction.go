package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// write calls f with the writer in a transaction, which is on disk when write returns nil.
func (s *Store) write(ctx context.Context, doing string, f func(*writer) error) error {
	if err := s.acquireWriter(ctx); err != nil {
		return fmt.Errorf("%s in the store %s: %w", doing, s.path, err)
	}
	defer s.releaseWriter()
	return s.wrap(ctx, doing, s.writer.transaction(func() error { return f(s.writer) }))
}

// transaction calls f in a transaction, and commits it if f returns nil. It doesn't end early.
func (w *writer) transaction(f func() error) (err error) {
	if w.broken != nil {
		return w.broken
	}
	defer func() {
		if errors.Is(err, journal.ErrBroken) {
			w.broken = err
			close(w.failed)
		}
	}()
	defer recoverPanic(&err)
	if err := w.begin.Exec(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	newest := w.newest
	if err := f(); err != nil {
		return w.rollBack(newest, err)
	}
	if err := w.commit.Exec(); err != nil {
		return w.rollBack(newest, fmt.Errorf("commit: %w", err))
	}
	return nil
}

// rollBack rolls the transaction back and drops what the writer cached in it, except for the sagas.
func (w *writer) rollBack(newest int64, cause error) error {
	w.newest = newest
	clear(w.definitions.keys)
	clear(w.types.keys)
	if w.conn.GetAutocommit() {
		return cause // SQLite has rolled the transaction back
	}
	if err := w.rollback.Exec(); err != nil {
		return errors.Join(cause, fmt.Errorf("roll back: %w", err))
	}
	return cause
}
