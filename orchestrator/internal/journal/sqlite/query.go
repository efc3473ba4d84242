package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// find returns a saga's row, or ErrNotFound.
func (r *reader) find(id string) (saga found, err error) {
	exists := false
	err = r.query(`SELECT `+rowColumns+` FROM sagas s WHERE s.id = ?`, []any{id}, func(stmt *sqlite3.Stmt) error {
		exists = true
		saga, err = scanRow(stmt)
		return err
	})
	if err == nil && !exists {
		err = fmt.Errorf("saga %s: %w", id, journal.ErrNotFound)
	}
	return saga, err
}

// Load implements journal.Store.
func (s *Store) Load(ctx context.Context, id string) (*journal.Journal, error) {
	var loaded *journal.Journal
	err := s.read(ctx, "load a saga", func(r *reader) error {
		saga, err := r.find(id)
		if err != nil {
			return err
		}
		loaded, err = r.journal(saga)
		return err
	})
	return loaded, err
}

// Get implements journal.Store.
func (s *Store) Get(ctx context.Context, id string) (*journal.Row, error) {
	var saga found
	err := s.read(ctx, "find a saga", func(r *reader) (err error) {
		saga, err = r.find(id)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &saga.row, nil
}

// Turns implements journal.Store.
func (s *Store) Turns(ctx context.Context, id string, after uint64, limit int) ([]journal.Turn, error) {
	var turns []journal.Turn
	err := s.read(ctx, "read turns", func(r *reader) error {
		if err := journal.ValidateLimit(limit); err != nil {
			return err
		}
		saga, err := r.find(id)
		if err != nil {
			return err
		}
		turns, err = r.turns(saga, after, limit)
		return err
	})
	return turns, err
}

// openQueries merge searches in an index, one for each state and each value of waiting.
var openQueries = map[journal.OpenSagas]string{
	journal.Driven: openQuery("s.state = 1 AND s.waiting = 0", "s.state = 2 AND s.waiting = 0"),
	journal.Unended: openQuery("s.state = 1 AND s.waiting = 0", "s.state = 1 AND s.waiting = 1",
		"s.state = 2 AND s.waiting = 0", "s.state = 2 AND s.waiting = 1",
		"s.state = 3 AND s.waiting = 0", "s.state = 3 AND s.waiting = 1"),
}

func openQuery(conditions ...string) string {
	for i, condition := range conditions {
		conditions[i] = `SELECT ` + rowColumns + ` FROM sagas s WHERE ` + condition + ` AND s.state < 4 AND s.id > ?1`
	}
	return strings.Join(conditions, ` UNION ALL `) + ` ORDER BY 2 LIMIT ?2`
}

// Open implements journal.Store.
func (s *Store) Open(ctx context.Context, params journal.OpenParams) ([]*journal.Journal, error) {
	var open []*journal.Journal
	err := s.read(ctx, "read open sagas", func(r *reader) error {
		if err := params.Validate(); err != nil {
			return err
		}
		sagas, err := r.open(params)
		if err != nil {
			return err
		}
		for _, saga := range sagas {
			var loaded *journal.Journal
			if err = saga.err; err == nil {
				loaded, err = r.journal(saga.found)
			}
			switch cause, _ := diagnose(err); {
			case err == nil:
			case isAny(err, journal.ErrCorrupt), isAny(cause, journal.ErrCorrupt):
				err = explain("read saga "+saga.row.ID+" in the store", s.path, err)
				loaded = &journal.Journal{Row: saga.row, Err: err}
			default:
				return err
			}
			open = append(open, loaded)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return open, nil
}

// scanned is a saga's row, or why it can't be read.
type scanned struct {
	found
	err error
}

// open returns a page of the rows of sagas that haven't ended.
func (r *reader) open(params journal.OpenParams) ([]scanned, error) {
	var sagas []scanned
	args := []any{params.After, int64(params.Limit)}
	err := r.query(openQueries[params.Which], args, func(stmt *sqlite3.Stmt) error {
		saga, err := scanRow(stmt)
		sagas = append(sagas, scanned{saga, err})
		return nil
	})
	if cause, _ := diagnose(err); !errors.Is(cause, journal.ErrCorrupt) {
		return sagas, err
	}
	// The rows are damaged. Their ids are also in an index, so that each can be read on its own.
	var ids []string
	ofIndex := strings.NewReplacer(rowColumns, "s.id", "sagas s", "sagas s INDEXED BY sagas_unended",
		"ORDER BY 2", "ORDER BY 1").Replace(openQueries[params.Which])
	err = r.query(ofIndex, args, func(stmt *sqlite3.Stmt) error {
		ids = append(ids, stmt.ColumnText(0))
		return nil
	})
	if err != nil {
		return nil, err
	}
	sagas = sagas[:0]
	for _, id := range ids {
		saga, err := r.find(id)
		saga.row.ID = id
		sagas = append(sagas, scanned{saga, err})
	}
	return sagas, nil
}

const dueQuery = `SELECT id, due FROM sagas WHERE due IS NOT NULL AND state < 4 AND due <= ? ORDER BY due, id LIMIT ?`

// Due implements journal.Store.
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

// List implements journal.Store.
func (s *Store) List(ctx context.Context, params journal.ListParams) ([]*journal.Row, error) {
	if err := params.Validate(); err != nil {
		return nil, fmt.Errorf("list sagas in the store %s: %w", s.path, err)
	}
	sql, args := listQuery(params)
	var rows []*journal.Row
	err := s.read(ctx, "list sagas", func(r *reader) error {
		return r.query(sql, args, func(stmt *sqlite3.Stmt) error {
			saga, err := scanRow(stmt)
			if err != nil {
				saga.row.Err = explain("list saga "+saga.row.ID+" in the store", s.path, err)
			}
			rows = append(rows, &saga.row)
			return nil
		})
	})
	return rows, err
}
