package inbox

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/treatyhq/treaty/participant"
)

// batchConn is the connection on which batches run. It differs from the driver's in three ways:
//
//   - Statements are prepared once and used again.
//   - In a transaction with the effects of several calls, no call's context reaches the database. If one of its
//     statements were interrupted, SQLite would roll back all of it.
//   - What a handler leaves open is closed by discard.
//
// Package sql calls it with the connection's lock held, and so does sql.Conn.Raw, through which batches use it.
type batchConn struct {
	driverConn

	guard    *guard
	shared   *interruptible // In place of the contexts of calls, or nil if they count.
	prepared map[string]*preparedStatement
	uses     uint64
	open     map[*batchStatement]struct{}
	values   []driver.NamedValue // Of the statement that exec executes.
}

// driverConn is what the driver's connection has.
type driverConn interface {
	driver.Conn
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker

	GetAutocommit() bool
}

// driverStatement is what the driver's statements have.
type driverStatement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
	driver.NamedValueChecker
}

// driverRows is what the driver's rows have.
type driverRows interface {
	driver.Rows
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeNullable
	driver.RowsColumnTypeScanType
}

func newBatchConn(conn driver.Conn, g *guard) (*batchConn, error) {
	inner, ok := conn.(driverConn)
	if !ok {
		return nil, errDriver
	}
	return &batchConn{
		driverConn: inner, guard: g, prepared: make(map[string]*preparedStatement),
		open: make(map[*batchStatement]struct{}),
	}, nil
}

// interruptible is a context that ends when its flag is set. The driver looks at Err while it executes a statement.
type interruptible struct {
	context.Context //nolint:containedctx // It is a context.

	cut atomic.Bool
}

func newInterruptible() *interruptible { return &interruptible{Context: context.Background()} }

// Err implements context.Context.
func (i *interruptible) Err() error {
	if i.cut.Load() {
		return context.Canceled
	}
	return nil
}

// through returns the context that a statement is executed with.
func (c *batchConn) through(ctx context.Context) (context.Context, error) {
	if c.shared == nil {
		return ctx, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.shared, nil
}

// errDiscarded is the error of what a handler has left open.
var errDiscarded = errors.New("the handler that opened this has returned, or has taken too long")

// discard closes the statements and rows that are open, and makes all further use of them fail.
func (c *batchConn) discard() {
	for s := range c.open {
		s.rows = nil
		s.closed = true
		c.drop(s.inner) // Its rows may be in any state.
	}
	clear(c.open)
}

// Close implements driver.Conn.
func (c *batchConn) Close() error {
	c.discard()
	for _, p := range c.prepared {
		c.drop(p)
	}
	return c.driverConn.Close()
}

// maxPrepared is how many statements are kept, and maxPreparedText is the size of the longest one in bytes. A handler
// may write values into its statements, so that each is different.
const (
	maxPrepared     = 128
	maxPreparedText = 8 << 10
)

// preparedStatement is a statement of the driver. It is used by one batchStatement at a time.
type preparedStatement struct {
	driverStatement

	query string
	kept  bool   // It is in batchConn.prepared.
	busy  bool   // It is in use.
	used  uint64 // Larger for those that were used later.
}

// take returns a statement of a query that isn't in use.
func (c *batchConn) take(ctx context.Context, query string) (*preparedStatement, error) {
	c.uses++
	known := c.prepared[query]
	if known != nil && !known.busy {
		known.busy, known.used = true, c.uses
		return known, nil
	}
	statement, err := c.driverConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	inner, ok := statement.(driverStatement)
	if !ok {
		return nil, errors.Join(errDriver, statement.Close())
	}
	p := &preparedStatement{driverStatement: inner, query: query, busy: true, used: c.uses}
	if known == nil && keeps(query) && c.makeRoom() {
		p.kept = true
		c.prepared[query] = p
	}
	return p, nil
}

// makeRoom closes the statement that wasn't used for longest, if there are too many. It reports whether there is room.
func (c *batchConn) makeRoom() bool {
	if len(c.prepared) < maxPrepared {
		return true
	}
	var oldest *preparedStatement
	for _, p := range c.prepared {
		if !p.busy && (oldest == nil || p.used < oldest.used) {
			oldest = p
		}
	}
	if oldest == nil {
		return false
	}
	c.drop(oldest)
	return true
}

// put says that a statement isn't in use any more.
func (c *batchConn) put(p *preparedStatement) {
	if p.kept {
		p.busy = false
		return
	}
	c.drop(p)
}

// drop closes a statement.
func (c *batchConn) drop(p *preparedStatement) {
	if p.kept {
		delete(c.prepared, p.query)
	}
	_ = p.Close() // It says again how its last execution ended.
}

// exec executes a statement of the inbox itself, with arguments that SQLite knows, strings of its own types, and ints.
func (c *batchConn) exec(query string, args []any) (result driver.Result, err error) {
	err = c.run(query, args, func(ctx context.Context, p *preparedStatement) (err error) {
		result, err = p.ExecContext(ctx, c.values)
		return err
	})
	return result, err
}

// eachRow executes a query of the inbox itself. See the function of this name.
func (c *batchConn) eachRow(query string, args []any, f func(row []any)) error {
	return c.run(query, args, func(ctx context.Context, p *preparedStatement) (err error) {
		rows, err := p.QueryContext(ctx, c.values)
		if err != nil {
			return err
		}
		// Most commands have no row, and the driver reads the names of the columns before it returns one.
		if peek, ok := rows.(interface{ NextRow() error }); ok {
			if err := peek.NextRow(); err != nil {
				return errors.Join(ignoreEOF(err), rows.Close())
			}
			if err := rows.Close(); err != nil {
				return err
			}
			if rows, err = p.QueryContext(ctx, c.values); err != nil {
				return err
			}
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		values := make([]driver.Value, len(rows.Columns()))
		row := make([]any, len(values))
		for {
			if err := rows.Next(values); err != nil {
				return ignoreEOF(err)
			}
			for i, value := range values {
				row[i] = value
			}
			f(row)
		}
	})
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// run lets f execute a statement of the inbox itself with c.values.
func (c *batchConn) run(query string, args []any, f func(context.Context, *preparedStatement) error) error {
	ctx, err := c.through(context.Background())
	if err != nil {
		return err
	}
	p, err := c.take(ctx, query)
	if err != nil {
		return err
	}
	defer c.put(p)
	c.values = c.values[:0]
	defer func() { clear(c.values) }()
	for i, arg := range args {
		switch text := arg.(type) {
		case participant.Direction:
			arg = string(text)
		case Verdict:
			arg = string(text)
		}
		c.values = append(c.values, driver.NamedValue{Ordinal: i + 1, Value: arg})
		if err := p.CheckNamedValue(&c.values[i]); err != nil {
			return fmt.Errorf("argument %d of a statement: %T can't be stored: %w", i+1, arg, err)
		}
	}
	return f(ctx, p)
}

// keeps reports whether a statement is worth keeping.
func keeps(query string) bool {
	if len(query) > maxPreparedText {
		return false
	}
	switch word, _ := firstWord(query); word {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "SAVEPOINT", "RELEASE", "ROLLBACK",
		"BEGIN", "COMMIT":
		return true
	default:
		return false
	}
}

// allow returns an error if a handler would end its transaction with a statement.
func (c *batchConn) allow(query string) error {
	e := c.guard.running.Load()
	if e == nil {
		return nil
	}
	word, rest := firstWord(query)
	switch word {
	case "COMMIT", "END":
		e.made(mistakeCommit)
	case "ROLLBACK":
		if word, rest = firstWord(rest); word == "TRANSACTION" {
			word, _ = firstWord(rest)
		}
		if word == "TO" {
			return nil
		}
		e.made(mistakeRollback)
	default:
		return nil
	}
	return fmt.Errorf("%s isn't executed: a handler's transaction is ended by the inbox", word)
}

// firstWord returns the first word of a statement in capital letters, and what follows it.
func firstWord(query string) (word, rest string) {
	for {
		query = strings.TrimLeft(query, " \t\r\n\f;\ufeff")
		switch {
		case strings.HasPrefix(query, "--"):
			_, query, _ = strings.Cut(query, "\n")
			continue
		case strings.HasPrefix(query, "/*"):
			_, query, _ = strings.Cut(query[2:], "*/")
			continue
		}
		end := strings.IndexFunc(query, func(r rune) bool { return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') })
		if end < 0 {
			end = len(query)
		}
		return strings.ToUpper(query[:end]), query[end:]
	}
}

// PrepareContext implements driver.ConnPrepareContext.
func (c *batchConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	ctx, err := c.through(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.allow(query); err != nil {
		return nil, err
	}
	inner, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	s := &batchStatement{conn: c, inner: inner}
	c.open[s] = struct{}{}
	return s, nil
}

// Prepare implements driver.Conn.
func (c *batchConn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// ExecContext implements driver.ExecerContext.
func (c *batchConn) ExecContext(
	ctx context.Context, query string, args []driver.NamedValue,
) (driver.Result, error) {
	if len(args) > 0 {
		return nil, driver.ErrSkip // It is prepared.
	}
	ctx, err := c.through(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.allow(query); err != nil {
		return nil, err
	}
	if c.prepared[query] == nil && !keeps(query) {
		return c.driverConn.ExecContext(ctx, query, nil)
	}
	inner, err := c.take(ctx, query)
	if err != nil { // Perhaps they are several statements.
		return c.driverConn.ExecContext(ctx, query, nil)
	}
	defer c.put(inner)
	return inner.ExecContext(ctx, nil)
}

// batchStatement is a statement of a batchConn that is in use.
type batchStatement struct {
	conn   *batchConn
	inner  *preparedStatement
	rows   *batchRows // That are open, or nil.
	closed bool
}

// Close implements driver.Stmt.
func (s *batchStatement) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	delete(s.conn.open, s)
	if s.rows != nil {
		s.conn.drop(s.inner)
	} else {
		s.conn.put(s.inner)
	}
	return nil
}

// NumInput implements driver.Stmt.
func (s *batchStatement) NumInput() int {
	if s.closed {
		return -1 // Its execution fails.
	}
	return s.inner.NumInput()
}

// CheckNamedValue implements driver.NamedValueChecker.
func (s *batchStatement) CheckNamedValue(value *driver.NamedValue) error {
	return s.inner.CheckNamedValue(value)
}

// Exec implements driver.Stmt.
func (s *batchStatement) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }

// Query implements driver.Stmt.
func (s *batchStatement) Query([]driver.Value) (driver.Rows, error) { return nil, driver.ErrSkip }

// ExecContext implements driver.StmtExecContext.
func (s *batchStatement) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if s.closed {
		return nil, errDiscarded
	}
	ctx, err := s.conn.through(ctx)
	if err != nil {
		return nil, err
	}
	return s.inner.ExecContext(ctx, args)
}

// QueryContext implements driver.StmtQueryContext.
func (s *batchStatement) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if s.closed {
		return nil, errDiscarded
	}
	ctx, err := s.conn.through(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.inner.QueryContext(ctx, args)
	if err != nil {
		return nil, err
	}
	inner, ok := rows.(driverRows)
	if !ok {
		return nil, errors.Join(errDriver, rows.Close())
	}
	s.rows = &batchRows{driverRows: inner, statement: s}
	return s.rows, nil
}

// batchRows are rows of a statement. They end with it.
type batchRows struct {
	driverRows

	statement *batchStatement
}

// Next implements driver.Rows.
func (r *batchRows) Next(values []driver.Value) error {
	if r.statement.rows != r {
		return errDiscarded
	}
	return r.driverRows.Next(values)
}

// Close implements driver.Rows.
func (r *batchRows) Close() error {
	if r.statement.rows != r {
		return nil
	}
	r.statement.rows = nil
	return r.driverRows.Close()
}

// ColumnTypeDatabaseTypeName implements driver.RowsColumnTypeDatabaseTypeName.
func (r *batchRows) ColumnTypeDatabaseTypeName(index int) string {
	if r.statement.rows != r {
		return ""
	}
	return r.driverRows.ColumnTypeDatabaseTypeName(index)
}

// ColumnTypeNullable implements driver.RowsColumnTypeNullable.
func (r *batchRows) ColumnTypeNullable(index int) (nullable, ok bool) {
	if r.statement.rows != r {
		return false, false
	}
	return r.driverRows.ColumnTypeNullable(index)
}

// ColumnTypeScanType implements driver.RowsColumnTypeScanType.
func (r *batchRows) ColumnTypeScanType(index int) reflect.Type {
	if r.statement.rows != r {
		return reflect.TypeFor[any]()
	}
	return r.driverRows.ColumnTypeScanType(index)
}
