// The inbox's tables. They are the same in every service and language; see docs/participants.md.

import type { Database } from "./database.js";

const schema = `
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
`;

/**
 * Creates the inbox's tables. A table of an earlier version is replaced and its rows are copied, because SQLite can't
 * change a CHECK constraint.
 */
export function createTables(database: Database): void {
  const table = database.get("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'treaty_inbox'");
  if (table === undefined || String(table["sql"]).includes("'closed'")) {
    database.exec(schema);
    return;
  }
  const columns = "sequence, command_id, direction, method, verdict, reply, epoch, attempt, executed_at, duplicates";
  database.exec("ALTER TABLE treaty_inbox RENAME TO treaty_inbox_before");
  database.exec(schema);
  database.exec(`INSERT INTO treaty_inbox (${columns}) SELECT ${columns} FROM treaty_inbox_before`);
  database.exec("DELETE FROM sqlite_sequence WHERE name = 'treaty_inbox'");
  database.exec(`
    INSERT INTO sqlite_sequence (name, seq)
    SELECT 'treaty_inbox', seq FROM sqlite_sequence WHERE name = 'treaty_inbox_before'
  `);
  database.exec("DROP TABLE treaty_inbox_before");
}
