package inbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/treatyhq/treaty/participant"
)

// OpenPostgres opens the inbox of a service whose database is PostgreSQL 15 or newer, and creates its tables if they
// don't exist. The service's own tables must be in the same database. It works with every driver whose errors have a
// method SQLState, such as those of pgx (github.com/jackc/pgx/v5/stdlib) and github.com/lib/pq. Package pgxinbox is for
// services that use pgx without package sql.
//
// Each command has a transaction of its own with the isolation level READ COMMITTED, so a handler that reads what it
// changes locks it, with SELECT ... FOR UPDATE or in the statement that changes it. If PostgreSQL ends a transaction
// because of a deadlock, or because it can't be serialized, it is repeated with its handler. For that, a handler
// returns the error of a statement, wrapped at most. Options.HandlerBudget has no effect.
//
// Let the server end the transactions of processes that stand still, and with them their locks: set
// idle_in_transaction_session_timeout for the service's connections, longer than any handler waits between two
// statements. A minute is a good start.
func OpenPostgres(ctx context.Context, db *sql.DB, options Options) (*Inbox, error) {
	return newInbox(ctx, db, new(postgresLedger), options)
}

// postgresLedger stores the rows in PostgreSQL, where transactions run at the same time.
//
// A transaction locks in this order: its command, then its saga if an older orchestrator has sent it, then what the
// handler locks, then its scope.
type postgresLedger struct{}

// guarding returns nil: a handler that writes around its transaction doesn't wait for it, so nothing shows.
func (l *postgresLedger) guarding() *guard { return nil }

// together returns nil: PostgreSQL lets commits that wait at the same time share a flush.
func (l *postgresLedger) together(*sql.DB) *committer { return nil }

func (l *postgresLedger) begin(
	ctx context.Context, db *sql.DB, commandID string,
) (_ *transaction, _ func(), err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	done := func() { _ = conn.Close() } // It goes back to the pool, unless it is broken.
	defer func() {
		if err != nil {
			done()
		}
	}()
	// The end of the call reaches the statements. If it reached the transaction, that could be rolled back while the
	// handler uses the connection.
	tx, err := conn.BeginTx(context.WithoutCancel(ctx), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, nil, err
	}
	if commandID != "" {
		if err := l.lock(ctx, tx, commandID); err != nil {
			return nil, nil, errors.Join(err, rollback(tx))
		}
	}
	return &transaction{Tx: tx, conn: conn}, done, nil
}

// lock waits until no other transaction works on the command, and keeps others waiting until this one ends. What is
// read afterwards includes all that others have committed, since each statement has a snapshot of its own.
func (l *postgresLedger) lock(ctx context.Context, tx querier, commandID string) error {
	for {
		// It waits for a transaction that has inserted the same row and hasn't ended.
		result, err := tx.ExecContext(ctx,
			`INSERT INTO treaty_inbox_commands (command_id) VALUES ($1) ON CONFLICT (command_id) DO NOTHING`, commandID)
		if err != nil {
			return err
		}
		if inserted, err := result.RowsAffected(); err != nil || inserted == 1 {
			return err
		}
		var locked string
		err = tx.QueryRowContext(ctx, `SELECT command_id FROM treaty_inbox_commands WHERE command_id = $1 FOR UPDATE`,
			commandID).Scan(&locked)
		if !errors.Is(err, sql.ErrNoRows) { // If it was purged in between, it is inserted again.
			return err
		}
	}
}

// lockSaga is like lock, for all commands of a saga. It leaves no row behind: the row of a transaction that is open
// keeps others from inserting it, also if it was deleted.
func (l *postgresLedger) lockSaga(ctx context.Context, tx querier, saga string) error {
	if err := l.lock(ctx, tx, saga); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM treaty_inbox_commands WHERE command_id = $1`, saga)
	return err
}

func (l *postgresLedger) look(ctx context.Context, tx querier, command participant.Command) (found seen, err error) {
	first, last := command.CommandID, command.CommandID
	if command.Scope == "" {
		// Without a scope, the epoch is that of the saga, so read all of its rows, and keep others from adding some.
		if err := l.lockSaga(ctx, tx, command.Saga); err != nil {
			return seen{}, err
		}
		first, last = sagaRange(command.Saga)
	} else {
		scope, err := l.scope(ctx, tx, command.Scope)
		if err != nil {
			return seen{}, err
		}
		if found.unheard = scope == nil; scope != nil {
			found.epoch, found.horizon = scope.epoch, scope.horizon
		}
	}
	err = eachRow(ctx, tx, `
		SELECT command_id, direction, method, verdict, CASE command_id WHEN $1 THEN reply END, epoch, request_digest
		FROM treaty_inbox WHERE command_id >= $2 AND command_id <= $3`,
		[]any{command.CommandID, first, last}, func(row []any) {
			found.add(command, row)
		})
	return found, err
}

func (l *postgresLedger) add(ctx context.Context, tx querier, e *entry) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO treaty_inbox (command_id, direction, method, verdict, reply, epoch, attempt, executed_at,
			scope, saga_start, request_digest)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		e.command.CommandID, string(e.command.Direction), e.method, string(e.verdict), notNil(e.answer),
		int64(e.command.Epoch), int64(e.command.Attempt), time.Now().UnixMicro(), e.command.Scope,
		micros(e.command.Start), e.command.RequestDigest)
	return err
}

// notNil returns the bytes, which mustn't be NULL.
func notNil(answer []byte) []byte {
	if answer == nil {
		return []byte{}
	}
	return answer
}

func (l *postgresLedger) settle(ctx context.Context, tx querier, e *entry) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE treaty_inbox SET verdict = $1, reply = $2, executed_at = $3 WHERE command_id = $4 AND direction = $5`,
		string(e.verdict), notNil(e.answer), time.Now().UnixMicro(), e.command.CommandID, string(e.command.Direction))
	return err
}

func (l *postgresLedger) drop(ctx context.Context, tx querier, command participant.Command) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM treaty_inbox WHERE command_id = $1 AND direction = $2`,
		command.CommandID, string(command.Direction))
	return err
}

func (l *postgresLedger) accepted(ctx context.Context, db *sql.DB) ([]PendingCommand, error) {
	return pendingCommands(ctx, db)
}

func (l *postgresLedger) duplicate(ctx context.Context, tx querier, command participant.Command) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE treaty_inbox SET duplicates = duplicates + 1, epoch = greatest(epoch, $1)
		WHERE command_id = $2 AND direction = $3`, int64(command.Epoch), command.CommandID, string(command.Direction))
	return err
}

func (l *postgresLedger) purge(
	ctx context.Context, tx querier, before time.Time, after int64,
) (deleted, last int64, err error) {
	// A batch is a range of rows, so it never scans the whole table.
	if err := tx.QueryRowContext(ctx, `
		SELECT coalesce(max(sequence), 0)
		FROM (SELECT sequence FROM treaty_inbox WHERE sequence > $1 ORDER BY sequence LIMIT 2000) AS batch`,
		after).Scan(&last); err != nil || last == 0 {
		return 0, 0, err
	}
	// A command that somebody works on is left for the next purge, so nobody waits and there is no deadlock.
	old := []string{}
	if err := eachRow(ctx, tx, `
		SELECT command_id FROM treaty_inbox_commands WHERE command_id IN (
			SELECT command_id FROM treaty_inbox WHERE sequence > $1 AND sequence <= $2 AND executed_at < $3)
		FOR UPDATE SKIP LOCKED`, []any{after, last, before.UnixMicro()},
		func(row []any) { old = append(old, textOf(row[0])) }); err != nil {
		return 0, 0, fmt.Errorf("locking old commands: %w", err)
	}
	locked, err := json.Marshal(old) // Not every driver knows arrays.
	if err != nil {
		return 0, 0, err
	}
	// A statement after the one that locks them sees all that others have committed before. A command's rows are
	// deleted together, when the newest is old enough and the command isn't pending.
	result, err := tx.ExecContext(ctx, `
		DELETE FROM treaty_inbox WHERE command_id IN (
			SELECT old.id FROM json_array_elements_text($1::json) AS old (id)
			WHERE (SELECT max(executed_at) FROM treaty_inbox AS newest WHERE newest.command_id = old.id) < $2
			AND NOT EXISTS (
				SELECT 1 FROM treaty_inbox AS r WHERE r.command_id = old.id AND r.scope <> ''
				AND r.saga_start >= coalesce((SELECT horizon FROM treaty_inbox_scopes AS s WHERE s.scope = r.scope), 0))
			AND NOT EXISTS (
				SELECT 1 FROM treaty_inbox AS p WHERE p.command_id = old.id AND p.verdict = 'accepted'
				AND (p.direction = 'compensation' OR NOT EXISTS (
					SELECT 1 FROM treaty_inbox AS c
					WHERE c.command_id = p.command_id AND c.direction = 'compensation'))))`,
		string(locked), before.UnixMicro())
	if err != nil {
		return 0, 0, fmt.Errorf("deleting old rows: %w", err)
	}
	if deleted, err = result.RowsAffected(); err != nil || deleted == 0 {
		return 0, last, err
	}
	if _, err := tx.ExecContext(ctx, `
		DELETE FROM treaty_inbox_commands AS gone
		WHERE command_id IN (SELECT json_array_elements_text($1::json))
		AND NOT EXISTS (SELECT 1 FROM treaty_inbox AS r WHERE r.command_id = gone.command_id)`,
		string(locked)); err != nil {
		return 0, 0, fmt.Errorf("deleting old commands: %w", err)
	}
	return deleted, last, nil
}

// conflicts implements ledger.
func (l *postgresLedger) conflicts(err error) bool {
	state := sqlState(err)
	return state == stateDeadlock || state == stateSerializationFailed
}

// broken implements ledger.
func (l *postgresLedger) broken(err error) mistake {
	switch sqlState(err) {
	case stateFailedTransaction:
		return mistakeFailed
	case stateNoTransaction, stateInvalidSavepoint:
		return mistakeEnded
	default:
		return ""
	}
}
