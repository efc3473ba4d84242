// The inbox commits an effect together with its reply, once for each command id and direction. Its rules and its tables
// are the same for every participant; see docs/participants.md.

import { status } from "@grpc/grpc-js";
import { checkEpoch, type Command } from "./command.js";
import type { Database } from "./database.js";
import { Refusal } from "./status.js";

export type Verdict =
  | "executed" | "refused" | "duplicate" | "null-compensated" | "refused-late" | "closed" | "stale" | "other-request"
  | "purged";

/** An answer: a serialized reply, or a serialized google.rpc.Status, which may hold for every attempt. */
export type Answer = { reply: Uint8Array } | { refusal: Uint8Array; settled: boolean };

export interface Handled {
  answer: Answer;
  verdict?: Verdict;
}

export interface Row {
  command_id: string;
  direction: string;
  method: string;
  verdict: Verdict;
  reply: Uint8Array;
  epoch: number | bigint;
  request_digest: string;
}

/** What is known of a scope. */
export interface Scope {
  epoch: bigint;
  position: bigint;
  storeId: string;
  /** In microseconds since 1970, or 0: no command of a saga that started before it comes any more. */
  horizon: bigint;
}

/** What is known of a command. */
export interface Known {
  action?: Row;
  compensation?: Row;
  /** The highest epoch of the scope, or of the saga if the command has no scope. */
  epoch: bigint;
  horizon: bigint;
}

export class Inbox {
  constructor(private readonly database: Database) {}

  /** Calls f in a transaction. This process has one thread and exclusive use of the database. */
  transaction<T>(f: () => T): T {
    this.database.exec("BEGIN IMMEDIATE");
    try {
      const result = f();
      this.database.exec("COMMIT");
      return result;
    } catch (error) {
      if (this.database.inTransaction) this.database.exec("ROLLBACK");
      throw error;
    }
  }

  /**
   * Runs a handler, which returns its serialized reply, in a transaction. If the handler throws a Refusal, its effect
   * is rolled back and the refusal is stored. Anything else that it throws is thrown again, and nothing is stored.
   */
  handle(command: Command | undefined, method: string, handler: () => Uint8Array): Handled {
    if (command === undefined) return this.transaction(() => ({ answer: { reply: handler() } }));
    checkEpoch(command.epoch);
    // A higher epoch is stored first, and stays whatever the handler comes to.
    if (command.scope !== "") this.transaction(() => this.raise(command.scope, command.epoch));
    return this.transaction(() => this.decide(command, method, handler));
  }

  private decide(command: Command, method: string, handler: () => Uint8Array): Handled {
    const known = this.look(command);
    if (command.epoch < known.epoch) {
      return { answer: unsettled(stale(command.commandId, command.epoch, known.epoch)), verdict: "stale" };
    }
    const other = otherRequest(known, command, method);
    if (other !== undefined) return { answer: unsettled(other), verdict: "other-request" };
    const before = command.direction === "action" ? known.action : known.compensation;
    const undone = command.direction === "action" && known.compensation !== undefined;
    if (before !== undefined) return this.repeat(command, before, undone);
    if (undone) return this.store(command, method, "refused-late", settled(compensatedBefore(command)));
    if (isPurged(known, command)) return { answer: unsettled(purged(command)), verdict: "purged" };
    if (command.direction === "compensation" && known.action?.verdict !== "executed") {
      return this.store(command, method, "null-compensated", { reply: new Uint8Array() });
    }
    return this.execute(command, method, handler);
  }

  private execute(command: Command, method: string, handler: () => Uint8Array): Handled {
    this.database.exec("SAVEPOINT treaty_handler");
    try {
      return this.store(command, method, "executed", { reply: handler() });
    } catch (error) {
      // A compensation's refusal isn't stored, so that an operator can send it again.
      if (!(error instanceof Refusal) || !error.refuses || command.direction === "compensation") throw error;
      this.database.exec("ROLLBACK TO treaty_handler");
      return this.store(command, method, "refused", settled(error));
    }
  }

  /** Answers a duplicate. An action that was compensated is refused, whatever it was answered before. */
  private repeat(command: Command, before: Row, undone: boolean): Handled {
    this.database.run(
      `UPDATE treaty_inbox SET duplicates = duplicates + 1, epoch = max(epoch, ?)
       WHERE command_id = ? AND direction = ?`,
      [command.epoch, command.commandId, command.direction],
    );
    if (undone) {
      const verdict = before.verdict === "refused-late" ? "duplicate" : "refused-late";
      return { answer: settled(compensatedBefore(command)), verdict };
    }
    const refused = ["refused", "refused-late", "closed"].includes(before.verdict);
    const answer = refused ? { refusal: before.reply, settled: true } : { reply: before.reply };
    return { answer, verdict: "duplicate" };
  }

  store(command: Command, method: string, verdict: Verdict, answer: Answer): Handled {
    this.database.run(
      `INSERT INTO treaty_inbox (command_id, direction, method, verdict, reply, epoch, attempt, executed_at,
         scope, saga_start, request_digest)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      [command.commandId, command.direction, method, verdict, "reply" in answer ? answer.reply : answer.refusal,
        command.epoch, command.attempt, nowMicros(), command.scope, command.start, command.digest],
    );
    return { answer, verdict };
  }

  /** Returns what is known of a command. */
  look(command: Command): Known {
    const scope = this.scope(command.scope);
    // Without a scope, the epoch is that of the saga, so read all of its rows. They lie between "{saga}/steps/" and
    // "{saga}/steps0", because "0" follows "/".
    const range = command.scope === "" ? sagaRange(command.saga) : [command.commandId, command.commandId];
    const rows = this.database.all(
      `SELECT command_id, direction, method, verdict, reply, epoch, request_digest FROM treaty_inbox
       WHERE command_id >= ? AND command_id <= ?`, range,
    ) as unknown as Row[];
    const of = (direction: string) => rows.find((r) => r.command_id === command.commandId && r.direction === direction);
    const highest = rows.reduce((highest, r) => (BigInt(r.epoch) > highest ? BigInt(r.epoch) : highest), 0n);
    const epoch = command.scope === "" ? highest : scope?.epoch ?? 0n;
    return { action: of("action"), compensation: of("compensation"), epoch, horizon: scope?.horizon ?? 0n };
  }

  /** Returns what is known of a scope. */
  scope(name: string): Scope | undefined {
    if (name === "") return undefined;
    const row = this.database.get(
      "SELECT epoch, position, store_id, horizon FROM treaty_inbox_scopes WHERE scope = ?", [name],
    );
    if (row === null) return undefined;
    const integer = (column: string) => BigInt(row[column] as number | bigint);
    return {
      epoch: integer("epoch"), position: integer("position"), storeId: String(row["store_id"]),
      horizon: integer("horizon"),
    };
  }

  /** Stores what is known of a scope. */
  putScope(name: string, scope: Scope): void {
    this.database.run(
      `INSERT INTO treaty_inbox_scopes (scope, epoch, position, store_id, horizon, heard_at) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (scope) DO UPDATE SET epoch = excluded.epoch, position = excluded.position,
         store_id = excluded.store_id, horizon = excluded.horizon, heard_at = excluded.heard_at`,
      [name, scope.epoch, scope.position, scope.storeId, scope.horizon, nowMicros()],
    );
  }

  /** Raises a scope's epoch. Returns what was known before. */
  raise(name: string, epoch: bigint): Scope | undefined {
    const known = this.scope(name);
    if (known === undefined || epoch > known.epoch) {
      this.putScope(name, { ...(known ?? { position: 0n, storeId: "", horizon: 0n }), epoch });
    }
    return known;
  }
}

function settled(refusal: Refusal): Answer {
  return { refusal: refusal.encoded, settled: true };
}

function unsettled(refusal: Refusal): Answer {
  return { refusal: refusal.encoded, settled: false };
}

/** Refuses a call of an orchestrator process that was replaced. */
export function stale(what: string, epoch: bigint, known: bigint): Refusal {
  const message = `${what} was sent under epoch ${epoch}, which epoch ${known} has replaced`;
  return new Refusal(status.ABORTED, message, "STALE_EPOCH", { epoch: String(known) });
}

/**
 * Refuses a command whose id is known for another request. The digest is the action's for both directions. One that is
 * missing, from an older orchestrator, matches everything.
 */
export function otherRequest(known: Known, command: Command, method: string): Refusal | undefined {
  for (const row of [known.action, known.compensation]) {
    if (row === undefined) continue;
    const otherMethod = row.direction === command.direction && row.method !== method;
    const otherDigest =
      row.request_digest !== "" && command.digest !== "" && row.request_digest !== command.digest;
    if (!otherMethod && !otherDigest) continue;
    return new Refusal(
      status.INTERNAL, `another request is known under ${command.commandId}: ${row.method} ${row.direction}`,
      "OTHER_REQUEST", { method: row.method.replace(/^\//, ""), digest: row.request_digest },
    );
  }
  return undefined;
}

function compensatedBefore(command: Command): Refusal {
  return new Refusal(status.FAILED_PRECONDITION, `${command.commandId} was compensated`, "COMPENSATED_BEFORE");
}

/** Refuses an action that its orchestrator has closed before it arrived. */
export function closedBefore(command: Command): Refusal {
  const message = `${command.commandId} was closed by its orchestrator before it arrived`;
  return new Refusal(status.FAILED_PRECONDITION, message, "CLOSED_BEFORE");
}

/** Reports whether the rows of a command may have been purged. */
export function isPurged(known: Known, command: Command): boolean {
  return known.action === undefined && known.compensation === undefined && command.start > 0n &&
    command.start < known.horizon;
}

/** Refuses a command whose rows may have been purged. */
export function purged(command: Command): Refusal {
  return new Refusal(status.INTERNAL, `it is no longer known what became of ${command.commandId}`, "PURGED");
}

/** Returns texts between which all command ids of a saga lie, and no others. */
export function sagaRange(saga: string): [string, string] {
  return [`${saga}/steps/`, `${saga}/steps0`];
}

/** Returns the current time in microseconds since 1970. */
export function nowMicros(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000));
}
