package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/treatyhq/treaty/participant"
)

// SQLiteSchema is the ledger's table in SQLite. A participant in another language creates the same table.
//
// The column sequence is the order of the transactions. reply is the serialized reply. For "refused", "refused-late"
// and "closed" it is the serialized google.rpc.Status, and for "accepted" a decimal number of seconds. executed_at is
// when the row was stored, or the accepted command was completed, and saga_start is treaty-start, both in microseconds
// since
// 1970. duplicates counts the calls that got the stored answer. scope, saga_start and request_digest are empty or 0 for
// commands of orchestrators that don't send them.
//
// The second table has a row for each scope: its highest epoch, and what its orchestrator says about itself with
// Describe. horizon and heard_at are in microseconds since 1970, or 0.
const SQLiteSchema = `
CREATE TABLE IF NOT EXISTS treaty_inbox (
	sequence    INTEGER PRIMARY KEY AUTOINCREMENT,
	command_id  TEXT    NOT NULL,
	direction   TEXT    NOT NULL CHECK (direction IN ('action', 'compensation')),
	method      TEXT    NOT NULL,
	verdict     TEXT    NOT NULL CHECK (
		verdict IN ('executed', 'accepted', 'refused', 'null-compensated', 'refused-late', 'closed')),
	reply       BLOB    NOT NULL,
	epoch       INTEGER NOT NULL,
	attempt     INTEGER NOT NULL,
	executed_at INTEGER NOT NULL,
	duplicates  INTEGER NOT NULL DEFAULT 0,
	scope          TEXT    NOT NULL DEFAULT '',
	saga_start     INTEGER NOT NULL DEFAULT 0,
	request_digest TEXT    NOT NULL DEFAULT '',
	UNIQUE (command_id, direction)
) STRICT;
CREATE INDEX IF NOT EXISTS treaty_inbox_accepted ON treaty_inbox (sequence) WHERE verdict = 'accepted';
CREATE TABLE IF NOT EXISTS treaty_inbox_scopes (
	scope    TEXT    PRIMARY KEY NOT NULL,
	epoch    INTEGER NOT NULL,
	position INTEGER NOT NULL,
	store_id TEXT    NOT NULL,
	horizon  INTEGER NOT NULL,
	heard_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`

// SQLiteDSN returns the data source name, for [OpenSQLiteDB], of a participant's SQLite database in the file at path.
// It has the settings that the inbox relies on: a commit is on disk when it returns, readers don't block the writer,
// and foreign keys are enforced. SQLite gives the files next to the database its mode.
func SQLiteDSN(path string) string {
	settings := url.Values{"modeof": {path}, "_pragma": {"busy_timeout(10000)", "journal_mode(wal)",
		"synchronous(full)", "foreign_keys(on)"}}
	encoded := strings.ReplaceAll(settings.Encode(), "+", "%20") // SQLite takes a plus sign for itself
	return "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?" + encoded
}

// OpenSQLite opens the inbox of a service whose database is SQLite (github.com/ncruces/go-sqlite3), and creates its
// table if it doesn't exist. The database must have been opened with [OpenSQLiteDB], and the service's own tables must
// be in it. Transactions of inboxes in one [sql.DB] queue in memory instead of polling for SQLite's lock, and use one
// connection besides the pool, which is closed with it.
func OpenSQLite(ctx context.Context, db *sql.DB, options Options) (*Inbox, error) {
	c, err := committerOf(db)
	if err != nil {
		return nil, fmt.Errorf("opening the inbox: %w", err)
	}
	return newInbox(ctx, db, &sqliteLedger{committer: c}, options)
}

// sqliteLedger stores the rows in SQLite, where only one transaction writes at a time.
type sqliteLedger struct {
	committer *committer
}

func (l *sqliteLedger) guarding() *guard { return l.committer.guard }

func (l *sqliteLedger) together(db *sql.DB) *committer {
	if db.Stats().MaxOpenConnections == 1 {
		return nil // Perhaps it is in memory, or must not be opened twice.
	}
	return l.committer
}

// conflicts returns false: transactions take turns.
func (l *sqliteLedger) conflicts(error) bool { return false }

// broken says nothing: the guard notices what handlers do to their transactions.
func (l *sqliteLedger) broken(error) mistake { return "" }

func (l *sqliteLedger) begin(ctx context.Context, db *sql.DB, _ string) (*transaction, func(), error) {
	if err := l.committer.turns.take(ctx); err != nil {
		return nil, nil, err
	}
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	detach := context.AfterFunc(ctx, cancel)
	done := func() {
		detach()
		cancel()
		l.committer.turns.give()
	}
	// Serializable is BEGIN IMMEDIATE: no other process can write until this transaction ends.
	tx, err := db.BeginTx(lasting, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		done()
		return nil, nil, errors.Join(ctx.Err(), err)
	}
	// The transaction keeps the write lock until the handler returns, even if the call ends before. Otherwise, what the
	// handler has begun to write around its transaction would go through then. With a single connection that would wait
	// for ever; there, the guard finds it.
	if db.Stats().MaxOpenConnections != 1 {
		detach()
	}
	return &transaction{Tx: tx}, done, nil
}

func (l *sqliteLedger) look(ctx context.Context, tx querier, command participant.Command) (found seen, err error) {
	scope, err := l.knownScope(ctx, tx, command.Scope)
	if err != nil {
		return seen{}, err
	}
	first, last := command.CommandID, command.CommandID
	if command.Scope == "" {
		// Without a scope, the epoch is that of the saga, so read all of its rows.
		first, last = sagaRange(command.Saga)
	} else if scope != nil {
		found.epoch, found.horizon = scope.epoch, scope.horizon
	}
	err = eachRow(ctx, tx, `
		SELECT command_id, direction, method, verdict, CASE command_id WHEN ?1 THEN reply END, epoch, request_digest
		FROM treaty_inbox WHERE command_id >= ?2 AND command_id <= ?3`,
		[]any{command.CommandID, first, last}, func(row []any) {
			found.add(command, row)
		})
	return found, err
}

func (l *sqliteLedger) add(ctx context.Context, tx querier, e *entry) error {
	answer := e.answer
	if answer == nil {
		answer = []byte{}
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO treaty_inbox (command_id, direction, method, verdict, reply, epoch, attempt, executed_at,
			scope, saga_start, request_digest)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		e.command.CommandID, e.command.Direction, e.method, e.verdict, answer, int64(e.command.Epoch),
		e.command.Attempt, time.Now().UnixMicro(), e.command.Scope, micros(e.command.Start), e.command.RequestDigest)
	return err
}

func (l *sqliteLedger) settle(ctx context.Context, tx querier, e *entry) error {
	answer := e.answer
	if answer == nil {
		answer = []byte{}
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE treaty_inbox SET verdict = ?, reply = ?, executed_at = ? WHERE command_id = ? AND direction = ?`,
		e.verdict, answer, time.Now().UnixMicro(), e.command.CommandID, e.command.Direction)
	return err
}

func (l *sqliteLedger) drop(ctx context.Context, tx querier, command participant.Command) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM treaty_inbox WHERE command_id = ? AND direction = ?`,
		command.CommandID, command.Direction)
	return err
}

func (l *sqliteLedger) accepted(ctx context.Context, db *sql.DB) ([]PendingCommand, error) {
	return pendingCommands(ctx, db)
}

func (l *sqliteLedger) duplicate(ctx context.Context, tx querier, command participant.Command) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE treaty_inbox SET duplicates = duplicates + 1, epoch = max(epoch, ?)
		WHERE command_id = ? AND direction = ?`, int64(command.Epoch), command.CommandID, command.Direction)
	return err
}

func (l *sqliteLedger) purge(
	ctx context.Context, tx querier, before time.Time, after int64,
) (deleted, last int64, err error) {
	// A batch is a range of rows, so it never scans the whole table.
	if err := tx.QueryRowContext(ctx, `
		SELECT coalesce(max(sequence), 0)
		FROM (SELECT sequence FROM treaty_inbox WHERE sequence > ? ORDER BY sequence LIMIT 2000)`,
		after).Scan(&last); err != nil || last == 0 {
		return 0, 0, err
	}
	// A command's rows are deleted together, when the newest is old enough and the command isn't pending.
	result, err := tx.ExecContext(ctx, `
		DELETE FROM treaty_inbox WHERE command_id IN (
			SELECT DISTINCT command_id FROM treaty_inbox AS old WHERE sequence > ? AND sequence <= ?
			AND (SELECT max(executed_at) FROM treaty_inbox AS newest WHERE newest.command_id = old.command_id) < ?
			AND NOT EXISTS (
				SELECT 1 FROM treaty_inbox AS r WHERE r.command_id = old.command_id AND r.scope <> ''
				AND r.saga_start >= coalesce((SELECT horizon FROM treaty_inbox_scopes AS s WHERE s.scope = r.scope), 0))
			AND NOT EXISTS (
				SELECT 1 FROM treaty_inbox AS p WHERE p.command_id = old.command_id AND p.verdict = 'accepted'
				AND (p.direction = 'compensation' OR NOT EXISTS (
					SELECT 1 FROM treaty_inbox AS c
					WHERE c.command_id = p.command_id AND c.direction = 'compensation'))))`,
		after, last, before.UnixMicro())
	if err != nil {
		return 0, 0, fmt.Errorf("deleting old rows: %w", err)
	}
	deleted, err = result.RowsAffected()
	return deleted, last, err
}
