package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/treatyhq/treaty/participant"
)

const postgresScope = `SELECT epoch, position, store_id, horizon FROM treaty_inbox_scopes WHERE scope = $1`

func (l *postgresLedger) scope(ctx context.Context, tx querier, name string) (*scopeRow, error) {
	return readScope(ctx, tx, postgresScope, name)
}

// lockScope inserts the scope if it is new, so that there is something to lock.
func (l *postgresLedger) lockScope(ctx context.Context, tx querier, name string) (*scopeRow, error) {
	if name == "" {
		return nil, nil
	}
	result, err := tx.ExecContext(ctx, `
		INSERT INTO treaty_inbox_scopes (scope, epoch, position, store_id, horizon, heard_at)
		VALUES ($1, 0, 0, '', 0, 0) ON CONFLICT (scope) DO NOTHING`, name)
	if err != nil {
		return nil, err
	}
	if inserted, err := result.RowsAffected(); err != nil || inserted == 1 {
		return nil, err
	}
	return readScope(ctx, tx, postgresScope+` FOR UPDATE`, name)
}

// hold locks the scope for as long as it takes to commit. Commands share the lock, so they don't wait for each other.
// What raises the epoch waits for them, and they for it, and then they see the epoch that it has set. A handler doesn't
// have the lock, so one that takes long doesn't keep an orchestrator from taking over.
func (l *postgresLedger) hold(ctx context.Context, tx querier, command participant.Command) (*scopeRow, error) {
	if command.Scope == "" {
		return nil, nil // Its saga is locked.
	}
	// FOR KEY SHARE wouldn't do: an UPDATE of an epoch doesn't wait for it.
	row, err := readScope(ctx, tx, postgresScope+` FOR SHARE`, command.Scope)
	if err == nil && row == nil {
		return nil, fmt.Errorf("the row of the scope %q in treaty_inbox_scopes is gone", command.Scope)
	}
	return row, err
}

func (l *postgresLedger) putScope(ctx context.Context, tx querier, row *scopeRow) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO treaty_inbox_scopes (scope, epoch, position, store_id, horizon, heard_at)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (scope) DO UPDATE SET epoch = excluded.epoch, position = excluded.position,
			store_id = excluded.store_id, horizon = excluded.horizon, heard_at = excluded.heard_at`,
		row.name, int64(row.epoch), int64(row.position), row.storeID, micros(row.horizon), time.Now().UnixMicro())
	return err
}

func (l *postgresLedger) list(
	ctx context.Context, tx querier, selection listSelection, yield func(*listedRow) error,
) error {
	const columns = `SELECT sequence, command_id, direction, method, verdict, executed_at, saga_start, request_digest
		FROM treaty_inbox WHERE scope IN ('', $1) AND `
	var rows *sql.Rows
	var err error
	if selection.saga != "" {
		first, last := sagaRange(selection.saga)
		rows, err = tx.QueryContext(ctx, columns+`command_id >= $2 AND command_id <= $3
			AND (command_id, direction) > ($4, $5) ORDER BY command_id, direction LIMIT $6`,
			selection.scope, first, last, selection.commandID, string(selection.direction), selection.limit)
	} else {
		rows, err = tx.QueryContext(ctx, columns+`sequence > $2 AND executed_at >= $3 ORDER BY sequence LIMIT $4`,
			selection.scope, selection.after, selection.since.UnixMicro(), selection.limit)
	}
	if err != nil {
		return err
	}
	return eachListed(rows, yield)
}
