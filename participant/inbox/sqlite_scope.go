package inbox

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/participant"
)

// scopeRow is what an inbox remembers of a scope.
type scopeRow struct {
	name     string
	epoch    uint64
	position uint64
	storeID  string
	horizon  time.Time
}

// micros returns a time in microseconds since 1970, and 0 for no time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// fromMicros is the opposite of micros.
func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// sagaRange returns texts between which all command ids of a saga lie, and no others: '0' follows '/'.
func sagaRange(saga string) (first, last string) {
	first = wire.JoinStep(saga, "")
	return first, first[:len(first)-1] + "0"
}

func (l *sqliteLedger) scope(ctx context.Context, tx querier, name string) (*scopeRow, error) {
	return readScope(ctx, tx, `SELECT epoch, position, store_id, horizon FROM treaty_inbox_scopes WHERE scope = ?`,
		name)
}

// lockScope needs no lock: only one transaction writes at a time.
func (l *sqliteLedger) lockScope(ctx context.Context, tx querier, name string) (*scopeRow, error) {
	return l.scope(ctx, tx, name)
}

// hold returns nil: nothing can have changed since look.
func (l *sqliteLedger) hold(context.Context, querier, participant.Command) (*scopeRow, error) {
	return nil, nil
}

// readScope returns the scope that a query finds by its name, or nil.
func readScope(ctx context.Context, tx querier, query, name string) (*scopeRow, error) {
	if name == "" {
		return nil, nil
	}
	row := &scopeRow{name: name}
	var horizon int64
	err := tx.QueryRowContext(ctx, query, name).Scan(&row.epoch, &row.position, &row.storeID, &horizon)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	row.horizon = fromMicros(horizon)
	return row, err
}

// knownScope is like scope, and reads each scope once in a batch.
func (l *sqliteLedger) knownScope(ctx context.Context, tx querier, name string) (*scopeRow, error) {
	u, ok := tx.(*unit)
	if !ok || u.batch == nil {
		return l.scope(ctx, tx, name)
	}
	if known := u.batch.scopes[name]; known != nil {
		return known, nil
	}
	known, err := l.scope(ctx, tx, name)
	if err == nil && known != nil {
		u.batch.scopes[name] = known
	}
	return known, err
}

func (l *sqliteLedger) putScope(ctx context.Context, tx querier, row *scopeRow) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO treaty_inbox_scopes (scope, epoch, position, store_id, horizon, heard_at) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (scope) DO UPDATE SET epoch = excluded.epoch, position = excluded.position,
			store_id = excluded.store_id, horizon = excluded.horizon, heard_at = excluded.heard_at`,
		row.name, int64(row.epoch), int64(row.position), row.storeID, micros(row.horizon), time.Now().UnixMicro())
	return err
}

// listSelection selects rows, see ledger.list.
type listSelection struct {
	scope     string
	saga      string
	commandID string // after which the rows of a saga begin
	direction participant.Direction
	since     time.Time
	after     int64
	limit     int
}

// listedRow is a row as orchestrators see it.
type listedRow struct {
	entry

	sequence int64
	updated  time.Time
}

func (l *sqliteLedger) list(
	ctx context.Context, tx querier, selection listSelection, yield func(*listedRow) error,
) error {
	const columns = `SELECT sequence, command_id, direction, method, verdict, executed_at, saga_start, request_digest
		FROM treaty_inbox WHERE scope IN ('', ?1) AND `
	var rows *sql.Rows
	var err error
	if selection.saga != "" {
		first, last := sagaRange(selection.saga)
		rows, err = tx.QueryContext(ctx, columns+`command_id >= ?2 AND command_id <= ?3
			AND (command_id, direction) > (?4, ?5) ORDER BY command_id, direction LIMIT ?6`,
			selection.scope, first, last, selection.commandID, selection.direction, selection.limit)
	} else {
		rows, err = tx.QueryContext(ctx, columns+`sequence > ?2 AND executed_at >= ?3 ORDER BY sequence LIMIT ?4`,
			selection.scope, selection.after, selection.since.UnixMicro(), selection.limit)
	}
	if err != nil {
		return err
	}
	return eachListed(rows, yield)
}

// eachListed calls yield with each row, and closes them.
func eachListed(rows *sql.Rows, yield func(*listedRow) error) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var row listedRow
		var updated, start int64
		if err := rows.Scan(&row.sequence, &row.command.CommandID, &row.command.Direction, &row.method, &row.verdict,
			&updated, &start, &row.command.RequestDigest); err != nil {
			return err
		}
		row.updated, row.command.Start = fromMicros(updated), fromMicros(start)
		if err := yield(&row); err != nil {
			return err
		}
	}
	return rows.Err()
}
