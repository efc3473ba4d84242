package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// childrenQuery returns the SQL of a page of children.
func childrenQuery(params journal.ChildrenParams) (sql string, args []any) {
	var c condition
	where := ` WHERE s.parent IS NOT NULL AND s.parent_scope IN ('', ` + c.arg(encoded(params.Scope)) + `)`
	if params.Parent != "" {
		where += ` AND s.parent = ` + c.arg(encoded(params.Parent))
	}
	if !params.Since.IsZero() {
		where += ` AND x.update_time >= ` + c.arg(params.Since.UnixMicro())
	}
	if params.After != nil {
		where += ` AND (s.parent, s.id) > (` + c.arg(encoded(params.After.Parent.Saga)) + `, ` +
			c.arg(encoded(params.After.ID)) + `)`
	}
	limit := c.arg(params.Limit)
	page := func(part part) string {
		return `(SELECT ` + part.columns + part.from + where + ` ORDER BY s.parent, s.id LIMIT ` + limit + `)`
	}
	// The scope and the parent of a row are columns 12 and 13.
	return page(openPart) + ` UNION ALL ` + page(endedPart) + ` ORDER BY 13, 2 LIMIT ` + limit, c.args
}

// Children implements journal.Store.
func (d *Database) Children(ctx context.Context, params journal.ChildrenParams) (rows []*journal.Row, err error) {
	if err := journal.ValidateLimit(params.Limit); err != nil {
		return nil, fmt.Errorf("read children in the store %s: %w", d.name, err)
	}
	sql, args := childrenQuery(params)
	err = d.query(ctx, "read children", func(ctx context.Context, q querier) error {
		sagas, err := sagasIn(ctx, q, sql, args...)
		if err != nil {
			return err
		}
		rows = nil
		for _, saga := range sagas {
			if saga.err != nil {
				return saga.err
			}
			rows = append(rows, &saga.row)
		}
		return nil
	})
	return rows, err
}

// Hear implements journal.Store.
func (d *Database) Hear(ctx context.Context, told journal.HeardScope) (before journal.HeardScope, err error) {
	if err := told.Validate(); err != nil {
		return journal.HeardScope{}, fmt.Errorf("store what was heard of a scope in %s: %w", d.name, err)
	}
	scope := encoded(told.Scope)
	err = d.write(ctx, "store what was heard of a scope", func(ctx context.Context, tx pgx.Tx) error {
		before = journal.HeardScope{}
		// The row is locked, also if it is new, so that two calls follow each other.
		if _, err := tx.Exec(ctx, `INSERT INTO scopes (scope, epoch, position, store_id) VALUES ($1, -1, 0, '')
			ON CONFLICT DO NOTHING`, scope); err != nil {
			return err
		}
		var epoch, position int64
		var horizon *int64
		var store string
		err := tx.QueryRow(ctx, `SELECT epoch, position, store_id, horizon FROM scopes WHERE scope = $1 FOR UPDATE`,
			scope).Scan(&epoch, &position, &store, &horizon)
		if err != nil {
			return err
		}
		if epoch >= 0 {
			before = journal.HeardScope{
				Scope: told.Scope, Epoch: uint64(epoch), Position: uint64(position), StoreID: decoded(store),
				Horizon: timeOf(horizon),
			}
		}
		merged := before.Merge(told)
		if merged == before {
			return nil
		}
		_, err = tx.Exec(ctx, `UPDATE scopes SET epoch = $2, position = $3, store_id = $4, horizon = $5
			WHERE scope = $1`, scope, signed(merged.Epoch), signed(merged.Position), encoded(merged.StoreID),
			microOrNil(merged.Horizon))
		return err
	})
	return before, err
}

// Consumer implements journal.Store.
func (d *Database) Consumer(ctx context.Context, given journal.Consumer) (journal.Consumer, error) {
	const doing = "find a consumer"
	if err := journal.ValidateConsumer(given); err != nil {
		return journal.Consumer{}, fmt.Errorf("%s in the store %s: %w", doing, d.name, err)
	}
	var found journal.Consumer
	err := d.query(ctx, doing, func(ctx context.Context, q querier) (err error) {
		found, err = consumer(ctx, q, given.Name, "")
		return err
	})
	if err == nil && !found.Claims(given) {
		return found, nil
	} else if err != nil && !errors.Is(err, journal.ErrNotFound) {
		return journal.Consumer{}, err
	}
	err = d.write(ctx, "create a consumer", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO consumers (name, position, filter, owner) VALUES ($1, $2, $3, $4)
			ON CONFLICT DO NOTHING`, encoded(given.Name), signed(given.Position), encoded(given.Filter),
			encoded(given.Owner)); err != nil {
			return err
		}
		var err error
		if found, err = consumer(ctx, tx, given.Name, " FOR UPDATE"); err != nil || !found.Claims(given) {
			return err
		}
		found.Owner = given.Owner
		_, err = tx.Exec(ctx, `UPDATE consumers SET owner = $2 WHERE name = $1`, encoded(given.Name),
			encoded(given.Owner))
		return err
	})
	if err != nil {
		return journal.Consumer{}, err
	}
	return found, nil
}

// Acknowledge implements journal.Store.
func (d *Database) Acknowledge(ctx context.Context, name string, position uint64, principal string) error {
	return d.write(ctx, "acknowledge events", func(ctx context.Context, tx pgx.Tx) error {
		before, err := consumer(ctx, tx, name, " FOR UPDATE")
		switch {
		case err != nil:
			return err
		case journal.Foreign(before.Owner, principal):
			return fmt.Errorf("consumer %s: %w", name, journal.ErrForeign)
		case position <= before.Position:
			return nil
		}
		_, err = tx.Exec(ctx, `UPDATE consumers SET position = $2 WHERE name = $1`, encoded(name), signed(position))
		return err
	})
}

// consumer returns a consumer, or ErrNotFound.
func consumer(ctx context.Context, q querier, name, suffix string) (journal.Consumer, error) {
	found := journal.Consumer{Name: name}
	var position int64
	err := q.QueryRow(ctx, `SELECT position, filter, owner FROM consumers WHERE name = $1`+suffix, encoded(name)).
		Scan(&position, &found.Filter, &found.Owner)
	if errors.Is(err, pgx.ErrNoRows) {
		return journal.Consumer{}, fmt.Errorf("consumer %s: %w", name, journal.ErrNotFound)
	}
	found.Position, found.Filter, found.Owner = uint64(position), decoded(found.Filter), decoded(found.Owner)
	return found, err
}
