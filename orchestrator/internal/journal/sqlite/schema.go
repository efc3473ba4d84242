package sqlite

import (
	"fmt"

	"github.com/ncruces/go-sqlite3"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// applicationID identifies the file as Treaty's in its header: "Trty".
const applicationID = 0x54727479

// turnBits is the number of bits of a turn's number. The key of a turn is one integer: the saga's key, followed by the
// turn's number. So adding a turn is one insertion into one b-tree, and the key takes at most 8 bytes.
const turnBits = 24

// migrations migrate the schema from each version to the next. Number 0 creates version 1 in an empty file. A released
// migration never changes.
//
// # Values
//
// States are the numbers of treaty.v1.SagaState. Suspensions are those of treaty.v1.SuspensionReason; 0 is none, or
// that of a saga that was suspended before the column existed. Times are microseconds since 1970, in UTC; NULL is none.
// The names of definitions and event types are stored once. Labels are stored twice: in the row of the saga for
// reading, and in their own table for searching. The column created is the position of the newest event when the
// saga's first turn was written, and first_turn is the number of the first turn in the saga's journal. The column time
// of a turn is when it was made.
//
// A turn's checksum is the CRC-32C of its data and position. It is NULL if the turn was written before the column
// existed.
//
// # Indexes
//
// Every index costs a microsecond or two for each saga. So most indexes are partial: they hold only the sagas that
// queries look for, and a query takes the same time no matter how many sagas have succeeded. SQLite uses a partial
// index only if the query repeats the condition of the index literally, so queries have states as numbers.
//
//   - sagas_by_update_time has no RUNNING and COMPENSATING sagas, which are few and change often.
//   - sagas_unended separates the sagas that wait from those that don't.
//   - sagas_ended and sagas_ended_apart find the sagas to purge without reading those to keep.
//   - sagas_by_undoer finds the children to purge with a saga.
//   - awaits_by_key finds the awaits of an event.
//   - sagas_by_parent and sagas_by_parent_start hold the children of other orchestrators' sagas.
//
// # Children
//
// The columns parent, parent_scope and parent_start say which saga of another orchestrator has started a saga as its
// step. The table scopes holds what was heard of such orchestrators. The column undoer says who may compensate a saga
// after it has succeeded: the id of a saga of this store, an empty text for one of another orchestrator, or NULL for
// nobody. It is NULL, too, for sagas that were created before the column existed.
//
// # Purged sagas
//
// The table purged holds the ids of purged sagas that no other saga may have. end_time is when the saga ended. It is
// NULL if the id is never deleted.
//
// # Past events
//
// The table past_events holds the ids of events that were purged, with the SHA-256 of their type, subject and data.
//
// # Principals
//
// The column publisher has the id of the principal that published an event; NULL is none, or one that was published
// before the column existed. The column owner has that of the principal to which a consumer belongs, or an empty text.
//
// # Identity
//
// The table identity holds what the store says about itself, by name: "name", "store_id", "position", "replaced",
// "backup_time", "restored", "traced" and others. Lost sagas are stored as JSON.
var migrations = []string{
	`CREATE TABLE meta (
		name TEXT PRIMARY KEY NOT NULL,
		value INTEGER NOT NULL
	) STRICT, WITHOUT ROWID;
	INSERT INTO meta VALUES ('epoch', 0);

	CREATE TABLE definitions (
		key INTEGER PRIMARY KEY NOT NULL,
		name TEXT NOT NULL UNIQUE
	) STRICT;

	CREATE TABLE sagas (
		key INTEGER PRIMARY KEY NOT NULL,
		id TEXT NOT NULL UNIQUE,
		definition INTEGER NOT NULL,
		state INTEGER NOT NULL,
		create_time INTEGER NOT NULL,
		update_time INTEGER NOT NULL,
		end_time INTEGER,
		due INTEGER,
		labels TEXT
	) STRICT;
	CREATE INDEX sagas_by_create_time ON sagas (create_time);
	CREATE INDEX sagas_by_update_time ON sagas (update_time) WHERE state >= 3;
	CREATE INDEX sagas_unended ON sagas (state, id) WHERE state < 4;
	CREATE INDEX sagas_compensated ON sagas (state, create_time) WHERE state = 5;
	CREATE INDEX sagas_due ON sagas (due) WHERE due IS NOT NULL AND state < 4;

	CREATE TABLE turns (
		position INTEGER PRIMARY KEY NOT NULL,
		data BLOB NOT NULL
	) STRICT;

	CREATE TABLE labels (
		label TEXT NOT NULL,
		value TEXT NOT NULL,
		saga INTEGER NOT NULL,
		PRIMARY KEY (label, value, saga)
	) STRICT, WITHOUT ROWID;

	CREATE VIEW saga_list AS SELECT
		'sagas/' || id AS name,
		(SELECT name FROM definitions WHERE key = definition) AS definition,
		CASE state WHEN 1 THEN 'RUNNING' WHEN 2 THEN 'COMPENSATING' WHEN 3 THEN 'SUSPENDED'
			WHEN 4 THEN 'SUCCEEDED' WHEN 5 THEN 'COMPENSATED' ELSE state END AS state,
		strftime('%FT%R:%fZ', create_time / 1e6, 'unixepoch') AS create_time,
		strftime('%FT%R:%fZ', update_time / 1e6, 'unixepoch') AS update_time,
		strftime('%FT%R:%fZ', end_time / 1e6, 'unixepoch') AS end_time,
		strftime('%FT%R:%fZ', due / 1e6, 'unixepoch') AS due,
		labels
	FROM sagas;

	CREATE VIEW saga_turns AS SELECT
		'sagas/' || id AS name, position & 0xffffff AS turn, length(data) AS bytes, data
	FROM sagas JOIN turns ON position BETWEEN (sagas.key << 24) AND (sagas.key << 24 | 0xffffff);`,

	`ALTER TABLE sagas ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE sagas ADD COLUMN created INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE sagas ADD COLUMN first_turn INTEGER NOT NULL DEFAULT 1;
	DROP INDEX sagas_unended;
	CREATE INDEX sagas_unended ON sagas (state, waiting, id) WHERE state < 4;
	CREATE INDEX sagas_ended ON sagas (definition, end_time) WHERE state >= 4;

	CREATE TABLE event_types (
		key INTEGER PRIMARY KEY NOT NULL,
		name TEXT NOT NULL UNIQUE
	) STRICT;

	CREATE TABLE events (
		position INTEGER PRIMARY KEY NOT NULL,
		source TEXT NOT NULL,
		id TEXT NOT NULL,
		type INTEGER NOT NULL,
		subject TEXT NOT NULL,
		time INTEGER NOT NULL,
		store_time INTEGER NOT NULL,
		data BLOB NOT NULL
	) STRICT;
	CREATE UNIQUE INDEX events_by_id ON events (source, id);
	CREATE INDEX events_by_key ON events (subject, type);
	CREATE INDEX events_by_type ON events (type);

	CREATE TABLE awaits (
		saga INTEGER NOT NULL,
		number INTEGER NOT NULL,
		type INTEGER NOT NULL,
		subject TEXT NOT NULL,
		after INTEGER NOT NULL,
		PRIMARY KEY (saga, number)
	) STRICT, WITHOUT ROWID;
	CREATE INDEX awaits_by_key ON awaits (subject, type, after);

	CREATE TABLE consumers (
		name TEXT PRIMARY KEY NOT NULL,
		position INTEGER NOT NULL,
		filter TEXT NOT NULL
	) STRICT, WITHOUT ROWID;

	CREATE TABLE purged (
		id TEXT PRIMARY KEY NOT NULL
	) STRICT, WITHOUT ROWID;

	DROP VIEW saga_list;
	CREATE VIEW saga_list AS SELECT
		'sagas/' || id AS name,
		(SELECT name FROM definitions WHERE key = definition) AS definition,
		CASE state WHEN 1 THEN 'RUNNING' WHEN 2 THEN 'COMPENSATING' WHEN 3 THEN 'SUSPENDED'
			WHEN 4 THEN 'SUCCEEDED' WHEN 5 THEN 'COMPENSATED' ELSE state END AS state,
		CASE waiting WHEN 0 THEN 'no' ELSE 'yes' END AS waiting,
		(SELECT group_concat((SELECT name FROM event_types WHERE event_types.key = type) || ' ' || subject, ', ')
			FROM awaits WHERE saga = sagas.key) AS awaits,
		strftime('%Y-%m-%dT%H:%M:%fZ', create_time / 1e6, 'unixepoch') AS create_time,
		strftime('%Y-%m-%dT%H:%M:%fZ', update_time / 1e6, 'unixepoch') AS update_time,
		strftime('%Y-%m-%dT%H:%M:%fZ', end_time / 1e6, 'unixepoch') AS end_time,
		strftime('%Y-%m-%dT%H:%M:%fZ', due / 1e6, 'unixepoch') AS due,
		labels
	FROM sagas;

	CREATE VIEW saga_events AS SELECT
		position, source, id,
		(SELECT name FROM event_types WHERE key = type) AS type,
		subject,
		strftime('%Y-%m-%dT%H:%M:%fZ', time / 1e6, 'unixepoch') AS time,
		strftime('%Y-%m-%dT%H:%M:%fZ', store_time / 1e6, 'unixepoch') AS store_time,
		length(data) AS bytes, data
	FROM events;`,

	`CREATE TABLE identity (
		name TEXT PRIMARY KEY NOT NULL,
		value TEXT NOT NULL
	) STRICT, WITHOUT ROWID;

	CREATE TABLE participants (
		service TEXT PRIMARY KEY NOT NULL,
		proven INTEGER NOT NULL,
		horizon INTEGER
	) STRICT, WITHOUT ROWID;

	CREATE TABLE past_events (
		position INTEGER PRIMARY KEY NOT NULL,
		source TEXT NOT NULL,
		id TEXT NOT NULL,
		store_time INTEGER NOT NULL,
		digest BLOB NOT NULL,
		UNIQUE (source, id)
	) STRICT;

	CREATE TABLE lost (
		id TEXT PRIMARY KEY NOT NULL,
		data TEXT NOT NULL
	) STRICT, WITHOUT ROWID;`,

	`ALTER TABLE sagas ADD COLUMN suspension INTEGER NOT NULL DEFAULT 0;`,

	`ALTER TABLE sagas ADD COLUMN parent_scope TEXT;
	ALTER TABLE sagas ADD COLUMN parent TEXT;
	ALTER TABLE sagas ADD COLUMN parent_start INTEGER;
	CREATE INDEX sagas_by_parent ON sagas (parent, id) WHERE parent IS NOT NULL;
	CREATE INDEX sagas_by_parent_start ON sagas (parent_scope, parent_start) WHERE parent IS NOT NULL;

	CREATE TABLE scopes (
		scope TEXT PRIMARY KEY NOT NULL,
		epoch INTEGER NOT NULL,
		position INTEGER NOT NULL,
		store_id TEXT NOT NULL,
		horizon INTEGER
	) STRICT, WITHOUT ROWID;`,

	`ALTER TABLE purged ADD COLUMN end_time INTEGER;
	CREATE INDEX purged_by_end ON purged (end_time) WHERE end_time IS NOT NULL;`,

	// The views cut times off to milliseconds, as the CLI does. The format %f would round them.
	`DROP VIEW saga_list;
	CREATE VIEW saga_list AS SELECT
		'sagas/' || id AS name,
		(SELECT name FROM definitions WHERE key = definition) AS definition,
		CASE state WHEN 1 THEN 'RUNNING' WHEN 2 THEN 'COMPENSATING' WHEN 3 THEN 'SUSPENDED'
			WHEN 4 THEN 'SUCCEEDED' WHEN 5 THEN 'COMPENSATED' ELSE state END AS state,
		CASE waiting WHEN 0 THEN 'no' ELSE 'yes' END AS waiting,
		(SELECT group_concat((SELECT name FROM event_types WHERE event_types.key = type) || ' ' || subject, ', ')
			FROM awaits WHERE saga = sagas.key) AS awaits,
		strftime('%Y-%m-%dT%H:%M:%S', create_time / 1000000, 'unixepoch') || printf('.%03dZ', create_time / 1000 % 1000)
			AS create_time,
		strftime('%Y-%m-%dT%H:%M:%S', update_time / 1000000, 'unixepoch') || printf('.%03dZ', update_time / 1000 % 1000)
			AS update_time,
		strftime('%Y-%m-%dT%H:%M:%S', end_time / 1000000, 'unixepoch') || printf('.%03dZ', end_time / 1000 % 1000)
			AS end_time,
		strftime('%Y-%m-%dT%H:%M:%S', due / 1000000, 'unixepoch') || printf('.%03dZ', due / 1000 % 1000)
			AS due,
		labels
	FROM sagas;

	DROP VIEW saga_events;
	CREATE VIEW saga_events AS SELECT
		position, source, id,
		(SELECT name FROM event_types WHERE key = type) AS type,
		subject,
		strftime('%Y-%m-%dT%H:%M:%S', time / 1000000, 'unixepoch') || printf('.%03dZ', time / 1000 % 1000)
			AS time,
		strftime('%Y-%m-%dT%H:%M:%S', store_time / 1000000, 'unixepoch') || printf('.%03dZ', store_time / 1000 % 1000)
			AS store_time,
		length(data) AS bytes, data
	FROM events;`,

	`ALTER TABLE turns ADD COLUMN checksum INTEGER;`,

	`ALTER TABLE sagas ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;`,

	// In the views, a saga that runs has changed when its last turn was made.
	`ALTER TABLE sagas ADD COLUMN request_id TEXT;
	ALTER TABLE turns ADD COLUMN time INTEGER;
	ALTER TABLE sagas ADD COLUMN undoer TEXT;
	DROP INDEX sagas_ended;
	CREATE INDEX sagas_ended ON sagas (definition, end_time) WHERE state >= 4 AND undoer IS NULL;
	CREATE INDEX sagas_ended_apart ON sagas (definition, end_time) WHERE state >= 4 AND undoer = '';
	CREATE INDEX sagas_by_undoer ON sagas (undoer) WHERE undoer > '';

	DROP VIEW saga_list;
	CREATE VIEW saga_list AS SELECT
		'sagas/' || id AS name,
		(SELECT name FROM definitions WHERE key = definition) AS definition,
		CASE state WHEN 1 THEN 'RUNNING' WHEN 2 THEN 'COMPENSATING' WHEN 3 THEN 'SUSPENDED'
			WHEN 4 THEN 'SUCCEEDED' WHEN 5 THEN 'COMPENSATED' ELSE state END AS state,
		CASE waiting WHEN 0 THEN 'no' ELSE 'yes' END AS waiting,
		(SELECT group_concat((SELECT name FROM event_types WHERE event_types.key = type) || ' ' || subject, ', ')
			FROM awaits WHERE saga = sagas.key) AS awaits,
		strftime('%Y-%m-%dT%H:%M:%S', create_time / 1000000, 'unixepoch') || printf('.%03dZ', create_time / 1000 % 1000)
			AS create_time,
		strftime('%Y-%m-%dT%H:%M:%S', changed / 1000000, 'unixepoch') || printf('.%03dZ', changed / 1000 % 1000)
			AS update_time,
		strftime('%Y-%m-%dT%H:%M:%S', end_time / 1000000, 'unixepoch') || printf('.%03dZ', end_time / 1000 % 1000)
			AS end_time,
		strftime('%Y-%m-%dT%H:%M:%S', due / 1000000, 'unixepoch') || printf('.%03dZ', due / 1000 % 1000)
			AS due,
		labels,
		request_id
	FROM (SELECT *, iif(state < 3, ifnull((SELECT time FROM turns
		WHERE position BETWEEN sagas.key << 24 AND (sagas.key << 24 | 0xffffff) ORDER BY position DESC LIMIT 1),
		update_time), update_time) AS changed FROM sagas) AS sagas;`,

	`ALTER TABLE events ADD COLUMN publisher TEXT;
	ALTER TABLE past_events ADD COLUMN publisher TEXT;
	ALTER TABLE consumers ADD COLUMN owner TEXT NOT NULL DEFAULT '';

	DROP VIEW saga_events;
	CREATE VIEW saga_events AS SELECT
		position, source, id,
		(SELECT name FROM event_types WHERE key = type) AS type,
		subject,
		strftime('%Y-%m-%dT%H:%M:%S', time / 1000000, 'unixepoch') || printf('.%03dZ', time / 1000 % 1000)
			AS time,
		strftime('%Y-%m-%dT%H:%M:%S', store_time / 1000000, 'unixepoch') || printf('.%03dZ', store_time / 1000 % 1000)
			AS store_time,
		length(data) AS bytes, data, publisher
	FROM events;`,
}

// migrate migrates the file to this program's schema in one transaction.
func migrate(conn *sqlite3.Conn) (err error) {
	version, err := queryInt(conn, `PRAGMA user_version`)
	if err != nil {
		return err
	}
	if version == int64(len(migrations)) {
		return nil
	}
	if version < 0 || version > int64(len(migrations)) {
		return fmt.Errorf("%w: its schema has version %d, this program supports %d; use the newer program",
			journal.ErrVersion, version, len(migrations))
	}
	tx, err := conn.BeginImmediate()
	if err != nil {
		return err
	}
	defer tx.End(&err)
	for i, migration := range migrations[version:] {
		if err := conn.Exec(migration); err != nil {
			return fmt.Errorf("migrate the schema to version %d: %w", version+int64(i)+1, err)
		}
	}
	return conn.Exec(fmt.Sprintf(`PRAGMA application_id = %d; PRAGMA user_version = %d`,
		applicationID, len(migrations)))
}

// queryInt returns the first column of the first row, or 0 if there is no row.
func queryInt(conn *sqlite3.Conn, sql string) (int64, error) {
	stmt, _, err := conn.Prepare(sql)
	if err != nil {
		return 0, err
	}
	defer stmt.Close()
	if !stmt.Step() {
		return 0, stmt.Err()
	}
	return stmt.ColumnInt64(0), nil
}
