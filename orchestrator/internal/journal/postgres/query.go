package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// The columns that scanRow reads, of a saga s with its changing part x.
const (
	openColumns  = rowColumns + `, x.suspension`
	endedColumns = rowColumns + `, 0::smallint`

	rowColumns = `s.key, s.id, (SELECT name FROM names n WHERE n.key = s.definition), x.state, s.create_time,
		x.update_time, x.end_time, x.due, s.labels, x.waiting, x.first_turn, s.parent_scope, s.parent, s.parent_start,
		s.request_id, s.undoer, x.revision, s.shard`

	fromOpen  = ` FROM open_sagas x JOIN sagas s ON s.key = x.key`
	fromEnded = ` FROM ended_sagas x JOIN sagas s ON s.key = x.key`
)

// found is a saga's row with the columns that only the store uses.
type found struct {
	row   journal.Row
	key   int64
	first uint64 // the number of the first turn

	err error // why a part of the row can't be read
}

func scanRow(rows pgx.CollectableRow) (*found, error) {
	f := &found{}
	var definition, labels, scope, parent, request, undoer *string
	var created, updated, revision int64
	var ended, due, parentStart *int64
	var state, suspension int16
	var first int32
	err := rows.Scan(&f.key, &f.row.ID, &definition, &state, &created, &updated, &ended, &due, &labels, &f.row.Waiting,
		&first, &scope, &parent, &parentStart, &request, &undoer, &revision, &f.row.Shard, &suspension)
	if err != nil {
		return nil, err
	}
	text := func(value *string) string {
		if value == nil {
			return ""
		}
		return decoded(*value)
	}
	row := &f.row
	row.ID, row.Definition, row.RequestID = decoded(row.ID), text(definition), text(request)
	row.State, row.Suspension = treatyv1.SagaState(state), treatyv1.SuspensionReason(suspension)
	row.CreateTime, row.UpdateTime = timeOf(&created), timeOf(&updated)
	row.EndTime, row.Due = timeOf(ended), timeOf(due)
	row.Parent = journal.Parent{Scope: text(scope), Saga: text(parent), Start: timeOf(parentStart)}
	row.LocalParent, row.Revision, f.first = text(undoer), uint64(revision), uint64(first)
	row.Parent.Compensates = undoer != nil && row.LocalParent == ""
	if labels != nil {
		if err := json.Unmarshal([]byte(*labels), &row.Labels); err != nil {
			f.err = fmt.Errorf("%w: the labels of saga %s: %w", journal.ErrCorrupt, row.ID, err)
		}
	}
	return f, nil
}

// sagasIn returns the sagas that a query finds.
func sagasIn(ctx context.Context, q querier, sql string, args ...any) ([]*found, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanRow)
}

const findQuery = `SELECT ` + openColumns + fromOpen + ` WHERE s.id = $1 UNION ALL
	SELECT ` + endedColumns + fromEnded + ` WHERE s.id = $1`

// find returns a saga's row, or ErrNotFound.
func find(ctx context.Context, q querier, id string) (*found, error) {
	sagas, err := sagasIn(ctx, q, findQuery, encoded(id))
	switch {
	case err != nil:
		return nil, err
	case len(sagas) == 0:
		return nil, fmt.Errorf("saga %s: %w", id, journal.ErrNotFound)
	}
	return sagas[0], sagas[0].err
}

// Load returns one saga with its journal, of any shard.
func (d *Database) Load(ctx context.Context, id string) (*journal.Journal, error) {
	return d.load(ctx, id, allShards)
}

// Load implements journal.Store.
func (s *Shard) Load(ctx context.Context, id string) (*journal.Journal, error) {
	return s.load(ctx, id, s.owned.Shard)
}

// allShards selects the sagas of all shards.
const allShards = -1

func (d *Database) load(ctx context.Context, id string, shard int) (loaded *journal.Journal, err error) {
	err = d.read(ctx, "load a saga", func(ctx context.Context, tx pgx.Tx) error {
		saga, err := find(ctx, tx, id)
		if err != nil {
			return err
		}
		if shard != allShards && saga.row.Shard != shard {
			return &journal.ElsewhereError{Saga: id, Shard: saga.row.Shard}
		}
		journals, err := journals(ctx, tx, []*found{saga})
		if err != nil {
			return err
		}
		loaded, err = journals[0], journals[0].Err
		return err
	})
	if err != nil {
		return nil, err
	}
	return loaded, nil
}

// Get implements journal.Store.
func (d *Database) Get(ctx context.Context, id string) (*journal.Row, error) {
	var saga *found
	err := d.query(ctx, "find a saga", func(ctx context.Context, q querier) (err error) {
		saga, err = find(ctx, q, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &saga.row, nil
}

// Turns implements journal.Store.
func (d *Database) Turns(ctx context.Context, id string, after uint64, limit int) (turns []journal.Turn, err error) {
	err = d.read(ctx, "read turns", func(ctx context.Context, tx pgx.Tx) error {
		if err := journal.ValidateLimit(limit); err != nil {
			return err
		}
		saga, err := find(ctx, tx, id)
		if err != nil {
			return err
		}
		from := saga.key<<turnBits | int64(min(after, journal.MaxTurns))
		rows, err := tx.Query(ctx, `SELECT position, checksum, data FROM turns
			WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3`, from,
			saga.key<<turnBits|journal.MaxTurns, limit)
		if err != nil {
			return err
		}
		turns = nil
		return eachTurn(rows, func(_ int64, turn journal.Turn, err error) error {
			if err != nil {
				return fmt.Errorf("saga %s: %w", id, err)
			}
			turns = append(turns, turn)
			return nil
		})
	})
	return turns, err
}

// eachTurn calls f with the key of the saga of each turn. The error is ErrCorrupt if a turn doesn't match its checksum.
func eachTurn(rows pgx.Rows, f func(key int64, turn journal.Turn, err error) error) error {
	var position int64
	var sum int32
	var data []byte
	_, err := pgx.ForEachRow(rows, []any{&position, &sum, &data}, func() (err error) {
		turn := journal.Turn{Number: uint64(position) & journal.MaxTurns, Data: data}
		if sum != checksum(position, data) {
			err = fmt.Errorf("%w: turn %d isn't what was written: its checksum doesn't match", journal.ErrCorrupt,
				turn.Number)
		}
		data = nil // the next row gets its own
		return f(position>>turnBits, turn, err)
	})
	return err
}

// journals returns sagas with their turns and awaits. One whose turns can't be read has an Err.
func journals(ctx context.Context, tx pgx.Tx, sagas []*found) ([]*journal.Journal, error) {
	keys, byKey := make([]int64, len(sagas)), make(map[int64]*journal.Journal, len(sagas))
	all := make([]*journal.Journal, len(sagas))
	for i, saga := range sagas {
		all[i] = &journal.Journal{Row: saga.row, Err: saga.err}
		keys[i], byKey[saga.key] = saga.key, all[i]
	}
	rows, err := tx.Query(ctx, `SELECT t.position, t.checksum, t.data FROM unnest($1::bigint[]) AS u (key)
		JOIN turns t ON t.position BETWEEN u.key << 24 AND u.key << 24 | 16777215 ORDER BY t.position`, keys)
	if err != nil {
		return nil, err
	}
	err = eachTurn(rows, func(key int64, turn journal.Turn, err error) error {
		one := byKey[key]
		if one.Turns = append(one.Turns, turn); err != nil && one.Err == nil {
			one.Err = fmt.Errorf("saga %s: %w", one.Row.ID, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, saga := range sagas {
		all[i].Err = errors.Join(all[i].Err, checkTurns(saga, all[i].Turns))
		if all[i].Err != nil {
			all[i].Turns = nil
		}
	}
	return all, addAwaits(ctx, tx, keys, byKey)
}

// checkTurns returns ErrCorrupt if a turn is missing.
func checkTurns(saga *found, turns []journal.Turn) error {
	if len(turns) == 0 {
		return fmt.Errorf("%w: saga %s has no turns", journal.ErrCorrupt, saga.row.ID)
	}
	for i, turn := range turns {
		if want := saga.first + uint64(i); turn.Number != want {
			return fmt.Errorf("%w: saga %s has turn %d instead of turn %d", journal.ErrCorrupt, saga.row.ID,
				turn.Number, want)
		}
	}
	return nil
}

func addAwaits(ctx context.Context, tx pgx.Tx, keys []int64, byKey map[int64]*journal.Journal) error {
	rows, err := tx.Query(ctx, `SELECT a.saga, n.name, a.subject, a.after FROM awaits a JOIN names n ON n.key = a.type
		WHERE a.saga = ANY ($1) ORDER BY a.saga, a.number`, keys)
	if err != nil {
		return err
	}
	var key, after int64
	var kind, subject string
	_, err = pgx.ForEachRow(rows, []any{&key, &kind, &subject, &after}, func() error {
		row := &byKey[key].Row
		if !journal.Final(row.State) {
			row.Awaits = append(row.Awaits,
				journal.Await{Type: decoded(kind), Subject: decoded(subject), After: uint64(after)})
		}
		return nil
	})
	return err
}

// Open returns a page of sagas of all shards that haven't ended, with their journals, in the order of their ids.
func (d *Database) Open(ctx context.Context, params journal.OpenParams) ([]*journal.Journal, error) {
	return d.open(ctx, params, allShards)
}

// Open implements journal.Store.
func (s *Shard) Open(ctx context.Context, params journal.OpenParams) ([]*journal.Journal, error) {
	return s.open(ctx, params, s.owned.Shard)
}

func (d *Database) open(
	ctx context.Context, params journal.OpenParams, shard int,
) (open []*journal.Journal, err error) {
	sql := `SELECT ` + openColumns + fromOpen + ` WHERE x.id > $1`
	if params.Which == journal.Driven {
		sql += ` AND x.state < 3 AND NOT x.waiting`
	}
	args := []any{encoded(params.After), params.Limit}
	if shard != allShards {
		sql, args = sql+` AND x.shard = $3`, append(args, shard)
	}
	err = d.read(ctx, "read open sagas", func(ctx context.Context, tx pgx.Tx) error {
		if err := params.Validate(); err != nil {
			return err
		}
		sagas, err := sagasIn(ctx, tx, sql+` ORDER BY x.id LIMIT $2`, args...)
		if err != nil {
			return err
		}
		open, err = journals(ctx, tx, sagas)
		return err
	})
	if err != nil {
		return nil, err
	}
	return open, nil
}

// Due returns up to limit timers of all shards that fire at until or before, of sagas that haven't ended.
func (d *Database) Due(ctx context.Context, until time.Time, limit int) ([]journal.Due, error) {
	return d.due(ctx, until, limit, allShards)
}

// Due implements journal.Store.
func (s *Shard) Due(ctx context.Context, until time.Time, limit int) ([]journal.Due, error) {
	return s.due(ctx, until, limit, s.owned.Shard)
}

func (d *Database) due(ctx context.Context, until time.Time, limit, shard int) (due []journal.Due, err error) {
	sql, args := `SELECT id, due FROM open_sagas WHERE due IS NOT NULL AND due <= $1`, []any{until.UnixMicro(), limit}
	if shard != allShards {
		sql, args = sql+` AND shard = $3`, append(args, shard)
	}
	err = d.query(ctx, "read timers", func(ctx context.Context, q querier) error {
		if err := journal.ValidateLimit(limit); err != nil {
			return err
		}
		rows, err := q.Query(ctx, sql+` ORDER BY due, id LIMIT $2`, args...)
		if err != nil {
			return err
		}
		due, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (one journal.Due, err error) {
			var at int64
			err = row.Scan(&one.Saga, &at)
			one.Saga, one.Time = decoded(one.Saga), timeOf(&at)
			return one, err
		})
		return err
	})
	return due, err
}

// OldestOpen returns the earliest CreateTime of the sagas of all shards that haven't ended, or zero if there is none.
func (d *Database) OldestOpen(ctx context.Context) (time.Time, error) {
	return d.oldest(ctx, `SELECT min(create_time) FROM open_sagas`)
}

// OldestOpen implements journal.Store.
func (s *Shard) OldestOpen(ctx context.Context) (time.Time, error) {
	return s.oldest(ctx, `SELECT min(create_time) FROM open_sagas WHERE shard = $1`, s.owned.Shard)
}

// OldestChild implements journal.Store.
func (d *Database) OldestChild(ctx context.Context) (time.Time, error) {
	return d.oldest(ctx, `SELECT min(oldest) FROM (SELECT (SELECT min(s.create_time) FROM sagas s
			WHERE s.parent IS NOT NULL AND s.parent_scope = scopes.scope
				AND s.parent_start >= coalesce(scopes.horizon, 0)
		) AS oldest FROM scopes) AS scoped`)
}

func (d *Database) oldest(ctx context.Context, sql string, args ...any) (oldest time.Time, err error) {
	err = d.query(ctx, "read the oldest saga", func(ctx context.Context, q querier) error {
		var at *int64
		err := q.QueryRow(ctx, sql, args...).Scan(&at)
		oldest = timeOf(at)
		return err
	})
	return oldest, err
}

// Purged implements journal.Store.
func (d *Database) Purged(ctx context.Context, id string) (purged bool, err error) {
	err = d.query(ctx, "find a purged saga", func(ctx context.Context, q querier) error {
		return q.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM purged WHERE id = $1)`, encoded(id)).Scan(&purged)
	})
	return purged, err
}
