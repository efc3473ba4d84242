package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// maxReaders is how many calls read at the same time; further ones wait. A reader keeps up to 5 MB of memory.
const maxReaders = 4

// readers are the connections that read. Each is opened when it is needed first.
type readers struct {
	path    string
	options options
	free    chan *reader // has an element for each free reader; nil for one that isn't open
}

// reader owns one connection. It is not safe for concurrent use.
type reader struct {
	conn  *sqlite3.Conn
	stmts map[string]*sqlite3.Stmt
}

func newReaders(path string, options options) *readers {
	r := &readers{path: path, options: options, free: make(chan *reader, maxReaders)}
	for range maxReaders {
		r.free <- nil
	}
	return r
}

// close waits for the calls in flight and closes the connections.
func (r *readers) close() error {
	var errs []error
	for range maxReaders {
		if reader := <-r.free; reader != nil {
			errs = append(errs, reader.close())
		}
	}
	return errors.Join(errs...)
}

func (r *reader) close() (err error) {
	defer recoverPanic(&err)
	for _, stmt := range r.stmts {
		err = errors.Join(err, stmt.Close())
	}
	return errors.Join(err, r.conn.Close())
}

// read calls f with a connection in a transaction, so that it reads one state of the store.
func (s *Store) read(ctx context.Context, doing string, f func(*reader) error) error {
	if err := s.checkOpen(ctx); err != nil {
		return fmt.Errorf("%s in the store %s: %w", doing, s.path, err)
	}
	var r *reader
	select {
	case r = <-s.readers.free:
	case <-s.closed:
		return fmt.Errorf("%s in the store %s: %w", doing, s.path, journal.ErrClosed)
	case <-ctx.Done():
		return fmt.Errorf("%s in the store %s: %w", doing, s.path, ctx.Err())
	}
	defer func() { s.readers.free <- r }()
	if err := s.checkOpen(ctx); err != nil {
		return fmt.Errorf("%s in the store %s: %w", doing, s.path, err)
	}
	if r == nil {
		conn, err := connect(ctx, s.path, s.options, "query_only = ON", "temp_store = MEMORY", "cache_size = -4096")
		if err != nil {
			return s.wrap(ctx, doing, err)
		}
		r = &reader{conn: conn, stmts: make(map[string]*sqlite3.Stmt)}
	}
	err := r.transaction(ctx, f)
	if errors.Is(err, errBroken) {
		r = nil // the next call opens a new one
	}
	return s.wrap(ctx, doing, err)
}

func (r *reader) transaction(ctx context.Context, f func(*reader) error) (err error) {
	defer recoverPanic(&err)
	r.conn.SetInterrupt(ctx)
	defer r.conn.SetInterrupt(context.Background())
	if err := r.conn.Exec(`BEGIN`); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		r.conn.SetInterrupt(context.Background()) // COMMIT must not be interrupted
		if end := r.conn.Exec(`COMMIT`); end != nil {
			// It fails after a page was damaged, also if f went around that. What f read is valid all the same.
			if rollback := r.conn.Exec(`ROLLBACK`); rollback != nil && !r.conn.GetAutocommit() {
				err = errors.Join(err, end, rollback)
			}
		}
	}()
	return f(r)
}

// query runs a statement and calls row for each of its rows. It caches the statement.
func (r *reader) query(sql string, args []any, row func(*sqlite3.Stmt) error) (err error) {
	stmt := r.stmts[sql]
	if stmt == nil {
		if len(r.stmts) >= 64 { // each filter makes another statement
			for old, stmt := range r.stmts {
				_ = stmt.Close() // it isn't in use
				delete(r.stmts, old)
			}
		}
		if stmt, err = prepare(r.conn, sql); err != nil {
			return err
		}
		r.stmts[sql] = stmt
	}
	if err := bind(stmt, args...); err != nil {
		return err
	}
	defer func() { _ = stmt.Reset() }() // stmt.Err returns the same error
	for stmt.Step() {
		if err := row(stmt); err != nil {
			return err
		}
	}
	return stmt.Err()
}

// rowColumns are the columns that scanRow reads.
const rowColumns = `s.key, s.id, (SELECT name FROM definitions WHERE definitions.key = s.definition), s.state,
	s.create_time, s.update_time, s.end_time, s.due, s.labels, s.waiting, s.first_turn, s.suspension,
	s.parent_scope, s.parent, s.parent_start, s.revision`

// found is a saga's row with the columns that only the store uses.
type found struct {
	row   journal.Row
	key   int64
	first uint64 // the number of the first turn
}

func scanRow(stmt *sqlite3.Stmt) (found, error) {
	row := journal.Row{
		ID:         stmt.ColumnText(1),
		Definition: stmt.ColumnText(2),
		State:      treatyv1.SagaState(stmt.ColumnInt64(3)),
		CreateTime: columnTime(stmt, 4),
		UpdateTime: columnTime(stmt, 5),
		EndTime:    columnTime(stmt, 6),
		Due:        columnTime(stmt, 7),
		Waiting:    stmt.ColumnBool(9),
		Suspension: treatyv1.SuspensionReason(stmt.ColumnInt64(11)),
		Parent: journal.Parent{
			Scope: stmt.ColumnText(12), Saga: stmt.ColumnText(13), Start: columnTime(stmt, 14),
		},
		Revision: uint64(stmt.ColumnInt64(15)),
	}
	saga := found{row: row, key: stmt.ColumnInt64(0), first: uint64(stmt.ColumnInt64(10))}
	if stmt.ColumnType(8) != sqlite3.NULL {
		if err := json.Unmarshal(stmt.ColumnRawText(8), &saga.row.Labels); err != nil {
			return saga, fmt.Errorf("%w: the labels of saga %s: %w", journal.ErrCorrupt, row.ID, err)
		}
	}
	return saga, nil
}

func columnTime(stmt *sqlite3.Stmt, column int) time.Time {
	if stmt.ColumnType(column) == sqlite3.NULL {
		return time.Time{}
	}
	return time.UnixMicro(stmt.ColumnInt64(column)).UTC()
}

// turns returns the turns of a saga with numbers greater than after. A limit of 0 means all. It returns ErrCorrupt if a
// turn doesn't match its checksum. Turns that an earlier version of the store wrote have none.
func (r *reader) turns(saga found, after uint64, limit int) ([]journal.Turn, error) {
	if limit <= 0 {
		limit = journal.MaxTurns
	}
	var turns []journal.Turn
	from := saga.key<<turnBits | int64(min(after, 1<<turnBits-1))
	err := r.query(turnsQuery, []any{from, saga.key<<turnBits | (1<<turnBits - 1), int64(limit)},
		func(stmt *sqlite3.Stmt) error {
			position := stmt.ColumnInt64(0)
			turn := journal.Turn{Number: uint64(position) & (1<<turnBits - 1), Data: stmt.ColumnBlob(1, nil)}
			if stmt.ColumnType(2) != sqlite3.NULL && stmt.ColumnInt64(2) != checksum(position, turn.Data) {
				return fmt.Errorf("%w: turn %d of saga %s isn't what was written: its checksum doesn't match",
					journal.ErrCorrupt, turn.Number, saga.row.ID)
			}
			turns = append(turns, turn)
			return nil
		})
	return turns, err
}

const turnsQuery = `SELECT position, data, checksum FROM turns WHERE position > ? AND position <= ?
	ORDER BY position LIMIT ?`

// journal returns a saga with its turns and awaits. It returns ErrCorrupt if a turn is missing or was changed.
func (r *reader) journal(saga found) (*journal.Journal, error) {
	turns, err := r.turns(saga, 0, 0)
	if err != nil {
		return nil, err
	}
	for i, turn := range turns {
		if want := saga.first + uint64(i); turn.Number != want {
			return nil, fmt.Errorf("%w: saga %s has turn %d instead of turn %d",
				journal.ErrCorrupt, saga.row.ID, turn.Number, want)
		}
	}
	if len(turns) == 0 {
		return nil, fmt.Errorf("%w: saga %s has no turns", journal.ErrCorrupt, saga.row.ID)
	}
	if !journal.Final(saga.row.State) {
		if saga.row.Awaits, err = r.awaits(saga.key); err != nil {
			return nil, err
		}
	}
	return &journal.Journal{Row: saga.row, Turns: turns}, nil
}

func (r *reader) awaits(key int64) ([]journal.Await, error) {
	var awaits []journal.Await
	const sql = `SELECT (SELECT name FROM event_types WHERE key = type), subject, after
		FROM awaits WHERE saga = ? ORDER BY number`
	err := r.query(sql, []any{key}, func(stmt *sqlite3.Stmt) error {
		awaits = append(awaits, journal.Await{
			Type: stmt.ColumnText(0), Subject: stmt.ColumnText(1), After: uint64(stmt.ColumnInt64(2)),
		})
		return nil
	})
	return awaits, err
}
