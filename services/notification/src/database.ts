// The service's database: SQLite in one file. A transaction is on disk when its commit returns.

import { existsSync, readFileSync, rmSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import sqlite from "node-sqlite3-wasm";

export type Database = InstanceType<typeof sqlite.Database>;

// Times are microseconds since 1970. treaty_inbox is the ledger, the same in every service; see docs/participants.md.
const migrations = [`
CREATE TABLE messages (
	sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
	name      TEXT    NOT NULL UNIQUE CHECK (name LIKE 'messages/%'),
	customer  TEXT    NOT NULL CHECK (customer LIKE 'customers/%'),
	email     TEXT    NOT NULL CHECK (email <> ''),
	subject   TEXT    NOT NULL,
	text      TEXT    NOT NULL,
	send_time INTEGER NOT NULL
) STRICT;
CREATE INDEX messages_by_customer ON messages (customer, sequence);
`, `
CREATE TABLE forgotten (customer TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
`];

const inboxSchema = `
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

/** Opens the database for this process only. Errors name the file and say what to do. */
export function openDatabase(path: string): Database {
  if (!existsSync(dirname(path)) || !statSync(dirname(path)).isDirectory()) {
    throw new Error(
      `opening database ${path}: its directory doesn't exist; create it or choose another file with --db`,
    );
  }
  process.umask(0o077); // only this user can read the database and its journal
  takeOwnership(path);
  let database: Database | undefined;
  try {
    database = new sqlite.Database(path);
    // EXCLUSIVE holds SQLite's lock while the process lives. EXTRA is FULL, and also syncs the directory when a
    // transaction's journal is deleted.
    database.exec(`
      PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE;
      PRAGMA synchronous = EXTRA; PRAGMA foreign_keys = ON
    `);
    migrate(database);
    return database;
  } catch (error) {
    database?.close();
    releaseOwnership(path);
    throw new Error(
      `opening database ${path}: ${message(error)}; ` +
        "if it is damaged, restore it from a backup or move it away to start with an empty one",
    );
  }
}

/** Closes the database, so that another process can open it. */
export function closeDatabase(database: Database, path: string): void {
  database.close();
  releaseOwnership(path);
}

function migrate(database: Database): void {
  database.exec("BEGIN IMMEDIATE");
  try {
    const version = Number(Object.values(database.get("PRAGMA user_version") ?? {})[0]);
    if (version > migrations.length) {
      throw new Error(
        "a newer version of the program wrote it: " +
          `its schema has version ${version}, this program knows versions up to ${migrations.length}`,
      );
    }
    for (const migration of migrations.slice(version)) database.exec(migration);
    database.exec(`PRAGMA user_version = ${migrations.length}`);
    createInbox(database);
    database.exec("COMMIT");
  } catch (error) {
    if (database.inTransaction) database.exec("ROLLBACK");
    throw error;
  }
}

/**
 * Creates the inbox's tables. A table of an earlier version is replaced and its rows are copied, because SQLite can't
 * change a CHECK constraint.
 */
function createInbox(database: Database): void {
  const table = database.get("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'treaty_inbox'");
  if (table === null || String(table["sql"]).includes("'closed'")) {
    database.exec(inboxSchema);
    return;
  }
  const columns = "sequence, command_id, direction, method, verdict, reply, epoch, attempt, executed_at, duplicates";
  database.exec("ALTER TABLE treaty_inbox RENAME TO treaty_inbox_before");
  database.exec(inboxSchema);
  database.exec(`INSERT INTO treaty_inbox (${columns}) SELECT ${columns} FROM treaty_inbox_before`);
  database.exec("DELETE FROM sqlite_sequence WHERE name = 'treaty_inbox'");
  database.exec(`
    INSERT INTO sqlite_sequence (name, seq)
    SELECT 'treaty_inbox', seq FROM sqlite_sequence WHERE name = 'treaty_inbox_before'
  `);
  database.exec("DROP TABLE treaty_inbox_before");
}

// This SQLite library locks a file by creating a directory next to it, which remains if the process is killed. The id
// of the owner's process is therefore kept in a file, to distinguish a held lock from one that was left behind.

function takeOwnership(path: string): void {
  const owner = existsSync(`${path}.owner`) ? Number(readFileSync(`${path}.owner`, "utf8")) : 0;
  if (owner > 0 && owner !== process.pid && alive(owner)) {
    throw new Error(`opening database ${path}: process ${owner} uses it; stop it or choose another file with --db`);
  }
  writeFileSync(`${path}.owner`, String(process.pid));
  if (existsSync(`${path}.lock`)) rmdirSync(`${path}.lock`);
}

function releaseOwnership(path: string): void {
  rmSync(`${path}.owner`, { force: true });
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Reports whether the database threw an error. */
export function databaseFailed(error: unknown): boolean {
  return error instanceof sqlite.SQLite3Error;
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
