package sqlite

import (
	"context"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

const findConsumerQuery = `SELECT position, filter, owner FROM consumers WHERE name = ?`

// Consumer implements journal.Store.
func (s *Store) Consumer(ctx context.Context, given journal.Consumer) (journal.Consumer, error) {
	const doing = "find a consumer"
	if err := journal.ValidateConsumer(given); err != nil {
		return journal.Consumer{}, fmt.Errorf("%s in the store %s: %w", doing, s.path, err)
	}
	found, known := journal.Consumer{}, false
	err := s.read(ctx, doing, func(r *reader) error {
		return r.query(findConsumerQuery, []any{given.Name}, func(stmt *sqlite3.Stmt) error {
			found, known = consumerIn(stmt, given.Name), true
			return nil
		})
	})
	if err != nil || known && !found.Claims(given) {
		return found, err
	}
	err = s.write(ctx, "create a consumer", func(w *writer) (err error) {
		found, known, err = w.consumer(given.Name)
		switch {
		case err != nil:
			return err
		case !known:
			found = given
			return run(w.insertConsumer, given.Name, signed(given.Position), given.Filter, given.Owner)
		case found.Claims(given):
			found.Owner = given.Owner
			return run(w.setOwner, given.Name, given.Owner)
		}
		return nil // another call has created it
	})
	if err != nil {
		return journal.Consumer{}, err
	}
	return found, nil
}

// Acknowledge implements journal.Store.
func (s *Store) Acknowledge(ctx context.Context, name string, position uint64, principal string) error {
	return s.write(ctx, "acknowledge events", func(w *writer) error {
		before, known, err := w.consumer(name)
		switch {
		case err != nil:
			return err
		case !known:
			return fmt.Errorf("consumer %s: %w", name, journal.ErrNotFound)
		case journal.Foreign(before.Owner, principal):
			return fmt.Errorf("consumer %s: %w", name, journal.ErrForeign)
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

// consumerIn returns the consumer in a row of position, filter and owner.
func consumerIn(stmt *sqlite3.Stmt, name string) journal.Consumer {
	return journal.Consumer{
		Name: name, Position: uint64(stmt.ColumnInt64(0)), Filter: stmt.ColumnText(1), Owner: stmt.ColumnText(2),
	}
}
