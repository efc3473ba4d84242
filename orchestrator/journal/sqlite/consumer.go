package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/journal"
)

// Consumer returns the position that a consumer acknowledged last, making it when it isn't known.
func (s *Store) Consumer(ctx context.Context, name string, first uint64) (uint64, error) {
	const doing = "find a consumer"
	if err := journal.ValidateConsumer(name); err != nil {
		return 0, fmt.Errorf("%s in the store %s: %w", doing, s.path, err)
	}
	position, known := int64(0), false
	err := s.read(ctx, doing, func(r *reader) error {
		return r.query(`SELECT position FROM consumers WHERE name = ?`, []any{name}, func(stmt *sqlite3.Stmt) error {
			position, known = stmt.ColumnInt64(0), true
			return nil
		})
	})
	if err != nil || known {
		return uint64(position), err
	}
	err = s.write(ctx, "make a consumer", func(w *writer) (err error) {
		if position, known, err = w.consumer(name); err != nil || known {
			return err // made in the meantime
		}
		position = signed(first)
		return run(w.insertConsumer, name, position)
	})
	if err != nil {
		return 0, err
	}
	return uint64(position), nil
}

// Acknowledge moves a consumer forward.
func (s *Store) Acknowledge(ctx context.Context, name string, position uint64) error {
	return s.write(ctx, "acknowledge events", func(w *writer) error {
		before, known, err := w.consumer(name)
		switch {
		case err != nil:
			return err
		case !known:
			return fmt.Errorf("consumer %s: %w", name, journal.ErrNotFound)
		case signed(position) <= before:
			return nil
		}
		return run(w.setConsumer, name, signed(position))
	})
}

func (w *writer) consumer(name string) (position int64, known bool, err error) {
	if err := bind(w.findConsumer, name); err != nil {
		return 0, false, err
	}
	known = w.findConsumer.Step()
	position = w.findConsumer.ColumnInt64(0)
	return position, known, errors.Join(w.findConsumer.Err(), w.findConsumer.Reset())
}
