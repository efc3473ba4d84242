package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/journal"
)

// find reads a saga's row; ErrNotFound when there is none.
func (r *reader) find(id string) (key int64, row journal.Row, err error) {
	found := false
	err = r.query(`SELECT `+rowColumns+` FROM sagas s WHERE s.id = ?`, []any{id}, func(stmt *sqlite3.Stmt) error {
		found = true
		key, row, err = scanRow(stmt)
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("saga %s: %w", id, journal.ErrNotFound)
	}
	return key, row, err
}

// Load returns one saga with its journal.
func (s *Store) Load(ctx context.Context, id string) (*journal.Journal, error) {
	var loaded *journal.Journal
	err := s.read(ctx, "load a saga", func(r *reader) error {
		key, row, err := r.find(id)
		if err != nil {
			return err
		}
		loaded, err = r.journal(key, row)
		return err
	})
	return loaded, err
}

// Get returns one saga's row.
func (s *Store) Get(ctx context.Context, id string) (*journal.Row, error) {
	var found journal.Row
	err := s.read(ctx, "find a saga", func(r *reader) (err error) {
		_, found, err = r.find(id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &found, nil
}

// Turns returns a page of a saga's turns.
func (s *Store) Turns(ctx context.Context, id string, after uint64, limit int) ([]journal.Turn, error) {
	var turns []journal.Turn
	err := s.read(ctx, "read turns", func(r *reader) error {
		if err := journal.ValidateLimit(limit); err != nil {
			return err
		}
		key, _, err := r.find(id)
		if err != nil {
			return err
		}
		turns, err = r.turns(key, after, limit)
		return err
	})
	return turns, err
}

// openQuery merges two walks along an index.
const openQuery = `SELECT ` + rowColumns + ` FROM sagas s WHERE s.state = 1 AND s.state < 4 AND s.id > ?1
	UNION ALL SELECT ` + rowColumns + ` FROM sagas s WHERE s.state = 2 AND s.state < 4 AND s.id > ?1
	ORDER BY 2 LIMIT ?2`

// Open returns sagas that are to be driven, with their journals.
func (s *Store) Open(ctx context.Context, after string, limit int) ([]*journal.Journal, error) {
	var open []*journal.Journal
	err := s.read(ctx, "read open sagas", func(r *reader) error {
		if err := journal.ValidateLimit(limit); err != nil {
			return err
		}
		type found struct {
			key int64
			row journal.Row
		}
		var rows []found
		err := r.query(openQuery, []any{after, int64(limit)},
			func(stmt *sqlite3.Stmt) error {
				key, row, err := scanRow(stmt)
				rows = append(rows, found{key, row})
				return err
			})
		if err != nil {
			return err
		}
		for _, f := range rows {
			one, err := r.journal(f.key, f.row)
			if err != nil {
				return err
			}
			open = append(open, one)
		}
		return nil
	})
	return open, err
}

const dueQuery = `SELECT id, due FROM sagas WHERE due IS NOT NULL AND state < 4 AND due <= ? ORDER BY due, id LIMIT ?`

// Due returns timers, earliest first.
func (s *Store) Due(ctx context.Context, until time.Time, limit int) ([]journal.Due, error) {
	var due []journal.Due
	err := s.read(ctx, "read timers", func(r *reader) error {
		if err := journal.ValidateLimit(limit); err != nil {
			return err
		}
		return r.query(dueQuery,
			[]any{until.UnixMicro(), int64(limit)}, func(stmt *sqlite3.Stmt) error {
				due = append(due, journal.Due{Saga: stmt.ColumnText(0), Time: columnTime(stmt, 1)})
				return nil
			})
	})
	return due, err
}

// List returns a page of rows.
func (s *Store) List(ctx context.Context, params journal.ListParams) ([]*journal.Row, error) {
	if err := params.Validate(); err != nil {
		return nil, fmt.Errorf("list sagas in the store %s: %w", s.path, err)
	}
	sql, args := listQuery(params)
	var rows []*journal.Row
	err := s.read(ctx, "list sagas", func(r *reader) error {
		return r.query(sql, args, func(stmt *sqlite3.Stmt) error {
			_, row, err := scanRow(stmt)
			rows = append(rows, &row)
			return err
		})
	})
	return rows, err
}
