package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// Consumer returns the consumer of a name, making it when it isn't known.
func (s *Store) Consumer(ctx context.Context, given journal.Consumer) (journal.Consumer, error) {
	const doing = "find a consumer"
	if err := journal.ValidateConsumer(given); err != nil {
		return journal.Consumer{}, fmt.Errorf("%s in the store %s: %w", doing, s.path, err)
	}
	found, known := journal.Consumer{}, false
	err := s.read(ctx, doing, func(r *reader) error {
		return r.query(`SELECT position, filter FROM consumers WHERE name = ?`, []any{given.Name}, func(stmt *sqlite3.Stmt) error {
			found, known = consumerIn(stmt, given.Name), true
			return nil
		})
	})
	if err != nil || known {
		return found, err
	}
	err = s.write(ctx, "make a consumer", func(w *writer) (err error) {
		if found, known, err = w.consumer(given.Name); err != nil || known {
			return err // made in the meantime
		}
		found = given
		return run(w.insertConsumer, given.Name, signed(given.Position), given.Filter)
	})
	if err != nil {
		return journal.Consumer{}, err
	}
	return found, nil
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
		case position <= before.Position:
			return nil
		}
		return run(w.setConsumer, name, signed(position))
	})
}

func (w *writer) consumer(name string) (found journal.Consumer, known bool, err error) {
	if err := bind(w.findConsumer, name); err != nil {
		return journal.Consumer{}, false, err
	}
	if known = w.findConsumer.Step(); known {
		found = consumerIn(w.findConsumer, name)
	}
	return found, known, errors.Join(w.findConsumer.Err(), w.findConsumer.Reset())
}

// consumerIn reads a consumer from a row with its position and filter.
func consumerIn(stmt *sqlite3.Stmt, name string) journal.Consumer {
	return journal.Consumer{Name: name, Position: uint64(stmt.ColumnInt64(0)), Filter: stmt.ColumnText(1)}
}
