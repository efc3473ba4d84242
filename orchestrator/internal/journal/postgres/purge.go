package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// The maximum numbers that one transaction deletes, so that it is short. A saga with more turns is still deleted at
// once.
const (
	purgeSagas  = 256
	purgeEvents = 1024
)

const (
	endedSagas = `SELECT s.key, s.id, s.labels,
			CASE WHEN s.parent IS NULL OR s.parent_start IS NOT NULL THEN x.end_time END` + fromEnded

	// overConditions leave out the sagas whose parents may still send commands, and those with a child that hasn't
	// ended, or a child of that child.
	overConditions = ` AND NOT coalesce(
			s.parent_start >= (SELECT coalesce(horizon, 0) FROM scopes WHERE scope = s.parent_scope), false)
		AND NOT (EXISTS (SELECT 1 FROM sagas c WHERE c.undoer = s.id AND c.undoer > '') AND EXISTS (
			WITH RECURSIVE family (key, id) AS (
				SELECT c.key, c.id FROM sagas c WHERE c.undoer = s.id AND c.undoer > ''
				UNION ALL
				SELECT c.key, c.id FROM family f JOIN sagas c ON c.undoer = f.id AND c.undoer > ''
			) SELECT 1 FROM family f JOIN open_sagas o ON o.key = f.key))`

	// endedQuery finds the sagas of a definition that ended before a time, the oldest first, without those whose ids
	// begin with a text.
	endedQuery = endedSagas + ` WHERE x.apart = $5 AND x.definition = (SELECT key FROM names WHERE name = $1)
		AND x.end_time < $2 AND ($4::text = '' OR NOT starts_with(s.id, $4::text))` + overConditions + `
		ORDER BY x.end_time LIMIT $3`

	// endedSagaQuery finds one saga of these, whatever its definition and when it ended.
	endedSagaQuery = endedSagas + ` WHERE s.id = $1 AND (x.apart = 1
		OR x.apart = 0 AND ($2::text = '' OR NOT starts_with(s.id, $2::text)))` + overConditions

	// familyQuery finds the children that a saga may compensate. Their parent is in the same store, so that their ids
	// may be deleted some time after they ended.
	familyQuery = `SELECT s.key, s.id, s.labels, x.end_time` + fromEnded + ` WHERE s.undoer = $1 AND s.undoer > ''`
)

// Purge implements journal.Store.
func (d *Database) Purge(ctx context.Context, params journal.PurgeParams) (int, error) {
	if err := journal.ValidateLimit(params.Limit); err != nil {
		return 0, fmt.Errorf("purge sagas in the store %s: %w", d.name, err)
	}
	return d.inTransactions(ctx, "purge sagas", params.Limit,
		func(ctx context.Context, tx pgx.Tx, limit int) (int, error) {
			return purge(ctx, tx, &params, min(limit, purgeSagas))
		})
}

// PurgeIDs implements journal.Store.
func (d *Database) PurgeIDs(ctx context.Context, endedBefore time.Time, limit int) (int, error) {
	if err := journal.ValidateLimit(limit); err != nil {
		return 0, fmt.Errorf("purge the ids of sagas in the store %s: %w", d.name, err)
	}
	return d.inTransactions(ctx, "purge the ids of sagas", limit,
		func(ctx context.Context, tx pgx.Tx, limit int) (int, error) {
			tag, err := tx.Exec(ctx, `DELETE FROM purged WHERE id IN (SELECT id FROM purged
				WHERE end_time IS NOT NULL AND end_time < $1 ORDER BY end_time LIMIT $2)`, endedBefore.UnixMicro(),
				min(limit, purgeEvents))
			return int(tag.RowsAffected()), err
		})
}

// inTransactions calls a function that deletes up to a limit, in one transaction each, until nothing is left or the
// limit is reached. It returns how many were deleted and committed.
func (d *Database) inTransactions(
	ctx context.Context, doing string, limit int, purge func(ctx context.Context, tx pgx.Tx, limit int) (int, error),
) (int, error) {
	for deleted := 0; ; {
		n := 0
		err := d.write(ctx, doing, func(ctx context.Context, tx pgx.Tx) (err error) {
			n, err = purge(ctx, tx, limit-deleted)
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

// endedSaga is a saga to delete.
type endedSaga struct {
	key    int64
	id     string
	labels map[string]string
	forget *int64 // when it ended, or nil if its id is never deleted
}

func endedSagasIn(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]endedSaga, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (saga endedSaga, err error) {
		var labels *string
		if err := row.Scan(&saga.key, &saga.id, &labels, &saga.forget); err != nil {
			return saga, err
		}
		if labels != nil {
			if err := json.Unmarshal([]byte(*labels), &saga.labels); err != nil {
				return saga, fmt.Errorf("%w: the labels of saga %s: %w", journal.ErrCorrupt, decoded(saga.id), err)
			}
		}
		return saga, nil
	})
}

func purge(ctx context.Context, tx pgx.Tx, params *journal.PurgeParams, limit int) (deleted int, err error) {
	// One purge at a time, so that two instances don't delete the same sagas.
	if err := lockPurge(ctx, tx); err != nil {
		return 0, err
	}
	var found []endedSaga
	if params.Saga != "" {
		found, err = endedSagasIn(ctx, tx, endedSagaQuery, encoded(params.Saga), encoded(params.ExceptPrefix))
	}
	apart := 0
	if params.Compensated {
		apart = 1
	}
	seen := make(map[string]bool)
	for _, definition := range params.Definitions {
		if params.Saga != "" || err != nil || seen[definition] || len(found) >= limit {
			continue
		}
		seen[definition] = true
		var more []endedSaga
		more, err = endedSagasIn(ctx, tx, endedQuery, encoded(definition), params.EndedBefore.UnixMicro(),
			limit-len(found), encoded(params.ExceptPrefix), apart)
		found = append(found, more...)
	}
	if err != nil {
		return 0, fmt.Errorf("find ended sagas: %w", err)
	}
	for i := 0; i < len(found); i++ { // the children of children, too
		children, err := endedSagasIn(ctx, tx, familyQuery, found[i].id)
		if err != nil {
			return 0, fmt.Errorf("find the children of saga %s: %w", decoded(found[i].id), err)
		}
		found = append(found, children...)
	}
	return len(found), deleteSagas(ctx, tx, found, params.Remember)
}

// lockPurge makes purges follow each other.
func lockPurge(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `INSERT INTO identity (name, value) VALUES ('purge', '')
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`)
	return err
}

func deleteSagas(ctx context.Context, tx pgx.Tx, sagas []endedSaga, remember func(id string) bool) error {
	if len(sagas) == 0 {
		return nil
	}
	var keys, labelKeys []int64
	var ids, labels, values []string
	var ends []*int64
	for _, saga := range sagas {
		keys = append(keys, saga.key)
		for label, value := range saga.labels {
			labels, values, labelKeys = append(labels, encoded(label)), append(values, encoded(value)),
				append(labelKeys, saga.key)
		}
		if remember != nil && remember(decoded(saga.id)) {
			ids, ends = append(ids, saga.id), append(ends, saga.forget)
		}
	}
	for _, one := range []struct {
		sql  string
		args []any
	}{
		{`DELETE FROM labels l USING unnest($1::text[], $2::text[], $3::bigint[]) AS u (label, value, saga)
			WHERE l.label = u.label AND l.value = u.value AND l.saga = u.saga`, []any{labels, values, labelKeys}},
		{`DELETE FROM ended_sagas WHERE key = ANY ($1)`, []any{keys}},
		{`DELETE FROM sagas WHERE key = ANY ($1)`, []any{keys}},
		{`INSERT INTO purged (id, end_time) SELECT * FROM unnest($1::text[], $2::bigint[]) ON CONFLICT DO NOTHING`,
			[]any{ids, ends}},
		{`DELETE FROM turns t USING unnest($1::bigint[]) AS u (key)
			WHERE t.position BETWEEN u.key << 24 AND u.key << 24 | 16777215`, []any{keys}},
	} {
		if _, err := tx.Exec(ctx, one.sql, one.args...); err != nil {
			return fmt.Errorf("delete sagas: %w", err)
		}
	}
	return nil
}

// PurgeEvents implements journal.Store.
func (d *Database) PurgeEvents(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := journal.ValidateLimit(limit); err != nil {
		return 0, fmt.Errorf("purge events in the store %s: %w", d.name, err)
	}
	return d.inTransactions(ctx, "purge events", limit,
		func(ctx context.Context, tx pgx.Tx, limit int) (int, error) {
			return eventsBefore(ctx, tx, before, min(limit, purgeEvents))
		})
}

func eventsBefore(ctx context.Context, tx pgx.Tx, before time.Time, limit int) (int, error) {
	if err := lockPurge(ctx, tx); err != nil {
		return 0, err
	}
	deleted, last, err := prefix(ctx, tx, `SELECT position, store_time FROM events
		WHERE position < (SELECT max(position) FROM events) ORDER BY position LIMIT $1`, before, limit)
	if err != nil || deleted == 0 {
		return 0, err
	}
	rows, err := tx.Query(ctx, `SELECT `+eventColumns+` FROM events e WHERE e.position <= $1 ORDER BY e.position`, last)
	if err != nil {
		return 0, err
	}
	events, err := pgx.CollectRows(rows, scanEvent)
	if err != nil {
		return 0, err
	}
	batch := &pgx.Batch{}
	for _, event := range events {
		var publisher *string
		if event.Publisher != "" {
			text := encoded(event.Publisher)
			publisher = &text
		}
		batch.Queue(`INSERT INTO past_events (position, store_time, source, id, publisher, digest)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`, signed(event.Position),
			event.StoreTime.UnixMicro(), encoded(event.Source), encoded(event.ID), publisher,
			eventDigest(event.Type, event.Subject, event.Data))
	}
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return 0, fmt.Errorf("remember the ids of old events: %w", err)
	}
	_, err = tx.Exec(ctx, `DELETE FROM events WHERE position <= $1`, last)
	return deleted, err
}

// prefix returns how many of the rows of a query, of positions and times, come before the first one whose time isn't
// before a given one, and the position of the last of them.
func prefix(ctx context.Context, tx pgx.Tx, sql string, before time.Time, limit int) (n int, last int64, err error) {
	rows, err := tx.Query(ctx, sql, limit)
	if err != nil {
		return 0, 0, err
	}
	var position, at int64
	over := false
	_, err = pgx.ForEachRow(rows, []any{&position, &at}, func() error {
		if over = over || at >= before.UnixMicro(); !over {
			n, last = n+1, position
		}
		return nil
	})
	return n, last, err
}

// PurgeEventIDs implements journal.Store.
func (d *Database) PurgeEventIDs(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := journal.ValidateLimit(limit); err != nil {
		return 0, fmt.Errorf("purge the ids of events in the store %s: %w", d.name, err)
	}
	return d.inTransactions(ctx, "purge the ids of events", limit,
		func(ctx context.Context, tx pgx.Tx, limit int) (int, error) {
			if err := lockPurge(ctx, tx); err != nil {
				return 0, err
			}
			deleted, last, err := prefix(ctx, tx, `SELECT position, store_time FROM past_events
				ORDER BY position LIMIT $1`, before, min(limit, purgeEvents))
			if err != nil || deleted == 0 {
				return 0, err
			}
			_, err = tx.Exec(ctx, `DELETE FROM past_events WHERE position <= $1`, last)
			return deleted, err
		})
}
