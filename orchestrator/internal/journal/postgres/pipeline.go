package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// statement is a statement of the write path.
type statement struct {
	name   string // of the prepared statement
	sql    string
	params []uint32 // the types of its parameters
}

// pipeline is a connection that writes. It sends several statements at once and then reads their results, in one round
// trip. It isn't safe for concurrent use.
type pipeline struct {
	conn *pgconn.PgConn

	pooled   bool // statements can't be kept
	prepared map[string]bool

	queued []queued
}

type queued struct {
	stmt   *statement
	values [][]byte
}

// result is what a statement has returned. Values are in the binary format.
type result struct {
	rows [][][]byte
}

// statementError is the server's error about one statement. Its transaction is rolled back.
type statementError struct {
	stmt *statement
	err  error
}

func (e *statementError) Error() string { return fmt.Sprintf("%s: %v", e.stmt.name, e.err) }
func (e *statementError) Unwrap() error { return e.err }

// failed returns whether an error is the server's about a statement.
func failed(err error, stmt *statement) bool {
	var of *statementError
	return errors.As(err, &of) && of.stmt == stmt
}

var (
	beginStatement    = statement{name: "treaty_begin", sql: `BEGIN`}
	commitStatement   = statement{name: "treaty_commit", sql: `COMMIT`}
	rollbackStatement = statement{name: "treaty_rollback", sql: `ROLLBACK`}
	localStatement    = statement{name: "treaty_local", sql: localSettings}
)

// pipelineTimeout limits a round trip, so that a server that doesn't answer is given up. It is longer than
// lock_timeout.
const pipelineTimeout = 30 * time.Second

// queue adds a statement to those that run sends. Its values may not change until then.
func (p *pipeline) queue(stmt *statement, values ...[]byte) {
	p.queued = append(p.queued, queued{stmt, values})
}

var binaryFormat = []int16{1}

// run sends what was queued, and reads the results, one for each statement. Without a begin statement, they are a
// transaction of their own. After an error of the server, which is a *statementError, the transaction is rolled back.
// After any other error the connection is closed, and it isn't known whether the transaction was committed.
func (p *pipeline) run(ctx context.Context) ([]result, error) {
	ctx, cancel := context.WithTimeout(ctx, pipelineTimeout)
	defer cancel()
	all := p.queued
	p.queued = p.queued[:0]
	line := p.conn.StartPipeline(ctx)
	for _, one := range all {
		switch {
		case p.pooled:
			line.SendQueryParams(one.stmt.sql, one.values, one.stmt.params, binaryFormat, binaryFormat)
			continue
		case !p.prepared[one.stmt.name]:
			line.SendPrepare(one.stmt.name, one.stmt.sql, one.stmt.params)
		}
		line.SendQueryPrepared(one.stmt.name, one.values, binaryFormat, binaryFormat)
	}
	results, err := p.read(line, all)
	if closeErr := line.Close(); closeErr != nil && err == nil {
		err = closeErr
	}
	var of *statementError
	if err != nil && !errors.As(err, &of) {
		_ = p.conn.Close(context.Background())
	}
	return results, err
}

func (p *pipeline) read(line *pgconn.Pipeline, all []queued) ([]result, error) {
	if err := line.Sync(); err != nil {
		return nil, err
	}
	results := make([]result, len(all))
	for i, one := range all {
		if !p.pooled && !p.prepared[one.stmt.name] {
			if _, err := line.GetResults(); err != nil {
				return nil, p.fail(line, one.stmt, err)
			}
			p.prepared[one.stmt.name] = true
		}
		got, err := line.GetResults()
		if err != nil {
			return nil, p.fail(line, one.stmt, err)
		}
		reader, is := got.(*pgconn.ResultReader)
		if !is {
			return nil, fmt.Errorf("%s: unexpected answer %T", one.stmt.name, got)
		}
		for reader.NextRow() {
			row := make([][]byte, 0, len(reader.Values()))
			for _, value := range reader.Values() {
				row = append(row, append([]byte(nil), value...))
			}
			results[i].rows = append(results[i].rows, row)
		}
		if _, err := reader.Close(); err != nil {
			return nil, p.fail(line, one.stmt, err)
		}
	}
	// Deferred work fails, if at all, when the transaction is committed.
	if _, err := line.GetResults(); err != nil {
		return nil, p.fail(line, &commitStatement, err)
	}
	return results, nil
}

// fail returns the error of a statement. It reads up to the end of the pipeline, so that it is known that the server
// has rolled the transaction back.
func (p *pipeline) fail(line *pgconn.Pipeline, stmt *statement, err error) error {
	var of *pgconn.PgError
	if !errors.As(err, &of) || of.SeverityUnlocalized == "FATAL" || of.SeverityUnlocalized == "PANIC" {
		return fmt.Errorf("%s: %w", stmt.name, err)
	}
	for stmt != &commitStatement {
		switch got, next := line.GetResults(); got.(type) {
		case *pgconn.PipelineSync:
			return &statementError{stmt, err}
		case nil:
			if next == nil {
				return &statementError{stmt, err}
			}
			if _, is := errors.AsType[*pgconn.PgError](next); !is {
				return fmt.Errorf("%s: %w: %w", stmt.name, err, next)
			}
		}
	}
	return &statementError{stmt, err}
}

// isOpen returns whether the connection can be used.
func (p *pipeline) isOpen() bool { return p != nil && !p.conn.IsClosed() }

// number returns a value of an integer type.
func number(value []byte) int64 {
	switch len(value) {
	case 8:
		return int64(binary.BigEndian.Uint64(value))
	case 4:
		return int64(int32(binary.BigEndian.Uint32(value)))
	case 2:
		return int64(int16(binary.BigEndian.Uint16(value)))
	}
	return 0
}
