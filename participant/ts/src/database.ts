// The participant's database: SQLite in one file. A transaction is on disk when its commit returns.

import { existsSync, readFileSync, rmSync, rmdirSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import sqlite from "node-sqlite3-wasm";
import { Misuse } from "./misuse.js";

/** A value in the database. Integers beyond 2^53 are bigints. */
export type SqlValue = number | bigint | string | Uint8Array | null;

/** A row of the database, by the names of its columns. */
export type Row = Readonly<Record<string, SqlValue>>;

/** What a statement has changed. */
export interface Changes {
  /** The number of rows that were inserted, updated or deleted. */
  readonly changes: number;
  readonly lastInsertRowid: number | bigint;
}

/** Statements that would end a handler's transaction. */
const ending = /(^|;)\s*(BEGIN|COMMIT|END|ROLLBACK|RELEASE|SAVEPOINT)\b/i;

/**
 * A SQLite database in one file, which belongs to this process alone while it is open. All methods are synchronous:
 * what a function does without an await is one step for everybody else. They throw an error for which databaseFailed
 * is true if SQLite fails.
 */
export class Database {
  private running: string | undefined;
  private mistakes: Misuse[] = [];

  private constructor(private readonly sql: InstanceType<typeof sqlite.Database>, private readonly path: string) {}

  /**
   * Opens the database in a file, which is created if it doesn't exist, and applies the migrations that it doesn't have
   * yet. Each migration is one or more statements. The version of the schema, which is the number of migrations, is
   * SQLite's user_version, so only append to the list. Throws an error that names the file and says what to do: if its
   * folder doesn't exist, if another process uses it, if a newer version of the program wrote it, or if it is damaged.
   */
  static open(path: string, migrations: readonly string[] = []): Database {
    if (!existsSync(dirname(path)) || !statSync(dirname(path)).isDirectory()) {
      throw new Error(`opening database ${path}: its directory doesn't exist; create it or choose another file`);
    }
    takeOwnership(path);
    let sql: InstanceType<typeof sqlite.Database> | undefined;
    try {
      sql = new sqlite.Database(path);
      // EXCLUSIVE holds SQLite's lock while the process lives. EXTRA is FULL, and also syncs the directory when a
      // transaction's journal is deleted.
      sql.exec(`
        PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE;
        PRAGMA synchronous = EXTRA; PRAGMA foreign_keys = ON
      `);
      const database = new Database(sql, path);
      database.migrate(migrations);
      return database;
    } catch (error) {
      sql?.close();
      releaseOwnership(path);
      throw new Error(
        `opening database ${path}: ${error instanceof Error ? error.message : String(error)}; ` +
          "if it is damaged, restore it from a backup or move it away to start with an empty one",
      );
    }
  }

  /** Executes any number of statements without values. */
  exec(statements: string): void {
    this.check(statements);
    this.sql.exec(statements);
  }

  /** Executes one statement. Each ? in it, or ?1, stands for a value. */
  run(statement: string, values: readonly SqlValue[] = []): Changes {
    this.check(statement);
    return this.sql.run(statement, [...values]);
  }

  /** Returns the first row of a query, or undefined if there is none. */
  get(query: string, values: readonly SqlValue[] = []): Row | undefined {
    this.check(query);
    return (this.sql.get(query, [...values]) as Row | null) ?? undefined;
  }

  /** Returns all rows of a query. */
  all(query: string, values: readonly SqlValue[] = []): Row[] {
    this.check(query);
    return this.sql.all(query, [...values]) as Row[];
  }

  /**
   * Calls f in a transaction, and returns what it returns. If f throws, or if the commit fails, the transaction is
   * rolled back. A handler has a transaction already, and must not call this.
   */
  transaction<T>(f: () => T): T {
    if (this.running !== undefined) throw this.misused("calls the inbox or begins a transaction: it has one already");
    this.sql.exec("BEGIN IMMEDIATE");
    try {
      const result = f();
      this.sql.exec("COMMIT");
      return result;
    } catch (error) {
      if (this.sql.inTransaction) this.sql.exec("ROLLBACK");
      throw error;
    }
  }

  /**
   * Calls a handler in a savepoint of a transaction. If it throws, its effect is rolled back. Throws a Misuse if the
   * handler has ended the transaction, or has tried to.
   *
   * @internal
   */
  handler<T>(name: string, f: () => T): T {
    this.sql.exec("SAVEPOINT treaty_handler");
    this.running = name;
    this.mistakes = [];
    try {
      const result = f();
      this.running = undefined;
      for (const mistake of this.mistakes) throw mistake; // also if the handler has caught it
      if (!this.sql.inTransaction) throw new Misuse(name, "goes on after its transaction was rolled back");
      this.sql.exec("RELEASE treaty_handler");
      return result;
    } catch (error) {
      this.running = undefined;
      if (this.sql.inTransaction) this.sql.exec("ROLLBACK TO treaty_handler; RELEASE treaty_handler");
      throw this.mistakes[0] ?? error;
    }
  }

  /** Closes the database, so that another process can open it. */
  close(): void {
    this.sql.close();
    releaseOwnership(this.path);
  }

  private check(statements: string): void {
    if (this.running !== undefined && ending.test(statements)) {
      throw this.misused("ends its transaction: the inbox commits it, and rolls it back if the handler throws");
    }
  }

  private misused(what: string): Misuse {
    const mistake = new Misuse(this.running ?? "", what);
    this.mistakes.push(mistake);
    return mistake;
  }

  private migrate(migrations: readonly string[]): void {
    this.transaction(() => {
      const version = Number(this.get("PRAGMA user_version")?.["user_version"]);
      if (version > migrations.length) {
        throw new Error(
          "a newer version of the program wrote it: " +
            `its schema has version ${version}, this program knows versions up to ${migrations.length}`,
        );
      }
      for (const migration of migrations.slice(version)) this.exec(migration);
      this.exec(`PRAGMA user_version = ${migrations.length}`);
    });
  }
}

// This SQLite library locks a file by creating a directory next to it, which remains if the process is killed. The id
// of the owner's process is therefore kept in a file, to distinguish a held lock from one that was left behind.

function takeOwnership(path: string): void {
  const owner = existsSync(`${path}.owner`) ? Number(readFileSync(`${path}.owner`, "utf8")) : 0;
  if (owner > 0 && owner !== process.pid && alive(owner)) {
    throw new Error(`opening database ${path}: process ${owner} uses it; stop it or choose another file`);
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

/** Reports whether SQLite threw an error. */
export function databaseFailed(error: unknown): boolean {
  return error instanceof sqlite.SQLite3Error;
}
