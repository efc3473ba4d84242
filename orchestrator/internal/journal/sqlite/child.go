package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// childrenQuery returns the SQL of a page of children.
func childrenQuery(params journal.ChildrenParams) (sql string, args []any) {
	var where condition
	where.text.WriteString("s.parent IS NOT NULL AND +s.parent_scope IN ('', " + where.arg(params.Scope) + ")")
	if params.Parent != "" {
		where.text.WriteString(" AND s.parent = " + where.arg(params.Parent))
	}
	if !params.Since.IsZero() {
		where.text.WriteString(" AND +s.update_time >= " + where.arg(params.Since.UnixMicro()))
	}
	if params.After != nil {
		where.text.WriteString(
			" AND (s.parent, s.id) > (" + where.arg(params.After.Parent.Saga) + ", " + where.arg(params.After.ID) + ")")
	}
	sql = "SELECT " + rowColumns + " FROM sagas s WHERE " + where.text.String() +
		" ORDER BY s.parent, s.id LIMIT " + where.arg(int64(params.Limit))
	return sql, where.args
}

// Children implements journal.Store.
func (s *Store) Children(ctx context.Context, params journal.ChildrenParams) ([]*journal.Row, error) {
	if err := journal.ValidateLimit(params.Limit); err != nil {
		return nil, fmt.Errorf("read children in the store %s: %w", s.path, err)
	}
	sql, args := childrenQuery(params)
	var rows []*journal.Row
	err := s.read(ctx, "read children", func(r *reader) error {
		rows = nil
		return r.query(sql, args, func(stmt *sqlite3.Stmt) error {
			saga, err := scanRow(stmt)
			rows = append(rows, &saga.row)
			return err
		})
	})
	return rows, err
}

// oldestChildQuery reads only the children whose parents may still send commands.
const oldestChildQuery = `SELECT min(oldest) FROM (SELECT (SELECT min(s.create_time) FROM sagas s
		WHERE s.parent IS NOT NULL AND s.parent_scope = scopes.scope AND s.parent_start >= ifnull(scopes.horizon, 0)
	) AS oldest FROM scopes)`

// OldestChild implements journal.Store.
func (s *Store) OldestChild(ctx context.Context) (oldest time.Time, err error) {
	err = s.read(ctx, "read the oldest child", func(r *reader) error {
		return r.query(oldestChildQuery, nil, func(stmt *sqlite3.Stmt) error {
			oldest = columnTime(stmt, 0)
			return nil
		})
	})
	return oldest, err
}

// Hear implements journal.Store.
func (s *Store) Hear(ctx context.Context, told journal.HeardScope) (before journal.HeardScope, err error) {
	if err := told.Validate(); err != nil {
		return journal.HeardScope{}, fmt.Errorf("store what was heard of a scope in %s: %w", s.path, err)
	}
	err = s.write(ctx, "store what was heard of a scope", func(w *writer) error {
		if before, err = w.heard(told.Scope); err != nil {
			return err
		}
		merged := before.Merge(told)
		if merged == before {
			return nil
		}
		return execute(w.conn, `INSERT INTO scopes (scope, epoch, position, store_id, horizon)
			VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (scope) DO UPDATE SET epoch = excluded.epoch,
			position = excluded.position, store_id = excluded.store_id, horizon = excluded.horizon`,
			merged.Scope, int64(merged.Epoch), int64(merged.Position), merged.StoreID, merged.Horizon)
	})
	return before, err
}

// heard returns what was heard of a scope, or zero.
func (w *writer) heard(scope string) (heard journal.HeardScope, err error) {
	stmt, _, err := w.conn.Prepare(`SELECT scope, epoch, position, store_id, horizon FROM scopes WHERE scope = ?`)
	if err != nil {
		return heard, err
	}
	defer stmt.Close()
	if err := stmt.BindText(1, scope); err != nil {
		return heard, err
	}
	if stmt.Step() {
		heard = journal.HeardScope{
			Scope: stmt.ColumnText(0), Epoch: uint64(stmt.ColumnInt64(1)), Position: uint64(stmt.ColumnInt64(2)),
			StoreID: stmt.ColumnText(3), Horizon: columnTime(stmt, 4),
		}
	}
	return heard, stmt.Err()
}
