// The inbox commits an effect together with its reply, once for each command id and direction. Its rules and its tables
// are the same for every participant; see docs/participants.md.

import { status } from "@grpc/grpc-js";
import { nowMicros } from "./clock.js";
import { checkEpoch, sagaOf, type Command, type CommandKey, type Direction } from "./command.js";
import { databaseFailed, type Database, type Row } from "./database.js";
import { CompletionError, Pending, type PendingCommand } from "./pending.js";
import {
  checkSize, closedBefore, compensatedBefore, isPurged, onlySagas, otherRequest, purged, stale,
  type Entry, type Known,
} from "./refusals.js";
import { isRefusal, StatusError } from "./status.js";
import { createTables } from "./tables.js";

/** What is stored of a command. */
export type StoredVerdict = "executed" | "accepted" | "refused" | "null-compensated" | "refused-late" | "closed";

/** What an inbox did with a call. */
export type Verdict = StoredVerdict | "duplicate" | "stale" | "other-request" | "purged";

/** A serialized reply, an acceptance, or a serialized google.rpc.Status, which may hold for every attempt. */
export type Answer =
  | { readonly reply: Uint8Array }
  | { readonly pending: Pending }
  | { readonly refusal: Uint8Array; readonly settled: boolean };

/** What came of a call. */
export interface Handled {
  readonly answer: Answer;
  /** Undefined for a call that isn't made for a saga. */
  readonly verdict?: Verdict;
}

/** What a contract says about a command. */
export interface Rules {
  /** Whether a handler's error with this code certainly refuses the command. */
  readonly refuses: (code: status) => boolean;
  /** Whether the action must succeed in the end, so that it can't be refused because its reply is too large. */
  readonly retriable: boolean;
  /** The size of the largest reply, in bytes. */
  readonly maxReplyBytes: number;
}

/**
 * The size of the largest reply: 4 MiB, which is what orchestrators receive, less 64 KiB for the message that contains
 * the reply if it is reported later.
 */
export const maxReplyBytes = (4 << 20) - (64 << 10);

/** What holds without a contract. */
export const defaultRules: Rules = { refuses: isRefusal, retriable: false, maxReplyBytes };

/** What the action of a compensation has replied. */
export interface ActionReply {
  /** "/package.Service/Method" */
  readonly method: string;
  readonly reply: Uint8Array;
}

/** A handler returns its serialized reply, or accepts the command. The action is given to compensations only. */
export type Run = (action: ActionReply | undefined) => Uint8Array | Pending;

/** What is known of a scope. */
export interface Scope {
  readonly epoch: bigint;
  readonly position: bigint;
  readonly storeId: string;
  /** In microseconds since 1970, or 0: no command of a saga that started before it comes any more. */
  readonly horizon: bigint;
}

const unknownScope: Scope = { epoch: 0n, position: 0n, storeId: "", horizon: 0n };

/** What became of an action that its orchestrator closes. */
export type Closing =
  | { readonly outcome: "executed"; readonly reply: Uint8Array }
  | { readonly outcome: "refused"; readonly refusal: Uint8Array }
  | { readonly outcome: "accepted" | "compensated" | "closed" };

/** A row of the inbox as orchestrators see it. */
export interface ListedCommand {
  readonly sequence: bigint;
  readonly commandId: string;
  readonly direction: Direction;
  readonly method: string;
  readonly verdict: StoredVerdict;
  readonly digest: string;
  /** In microseconds since 1970, and 0 for none. */
  readonly start: bigint;
  readonly updated: bigint;
}

/** Options of an inbox. */
export interface InboxOptions {
  /**
   * How long a command's rows are kept at least, in seconds. Without it they are kept forever. A row is deleted when it
   * is older, and the orchestrator has said that it sends no more commands of the row's saga. Rows of orchestrators
   * that say nothing, which are of earlier versions, are deleted by this time alone.
   */
  readonly retentionSeconds?: number;
}

/** How many new rows are added before a batch of old rows is deleted. */
const purgeEvery = 1000;

/**
 * Keeps what became of commands, in two tables of the service's own database: treaty_inbox and treaty_inbox_scopes. Use
 * one inbox for each database. It is synchronous.
 */
export class Inbox {
  private stored = 0;
  private purgedUpTo = 0n;

  /** Creates the tables, or brings those of an earlier version up to date. */
  constructor(readonly database: Database, private readonly options: InboxOptions = {}) {
    database.transaction(() => createTables(database));
  }

  /**
   * Runs a handler in a transaction, unless the command was handled before. If the handler throws a StatusError that
   * refuses an action, its effect is rolled back and the refusal is stored. Anything else that it throws is thrown
   * again, and nothing is stored.
   *
   * @internal
   */
  handle(command: Command | undefined, method: string, run: Run, rules: Rules = defaultRules): Handled {
    if (command === undefined) {
      return this.database.transaction(() => ({
        answer: {
          reply: this.database.handler(method, () => {
            const made = run(undefined);
            if (made instanceof Pending) throw onlySagas(method);
            return made;
          }),
        },
      }));
    }
    checkEpoch(command.epoch);
    // A higher epoch is stored first, and stays whatever the handler comes to.
    if (command.scope !== "") this.raise(command.scope, command.epoch);
    const handled = this.database.transaction(() => this.decide(command, method, run, rules));
    if (handled.verdict !== "duplicate") this.purgeSometimes();
    return handled;
  }

  private decide(command: Command, method: string, run: Run, rules: Rules): Handled {
    const known = this.look(command);
    if (command.epoch < known.epoch) {
      const refusal = stale(command.commandId, command.epoch, known.epoch);
      return { answer: unsettled(refusal), verdict: "stale" };
    }
    const other = otherRequest(known, command, method);
    if (other !== undefined) return { answer: unsettled(other), verdict: "other-request" };
    const before = command.direction === "action" ? known.action : known.compensation;
    const undone = command.direction === "action" && known.compensation !== undefined;
    if (before !== undefined) return this.repeat(command, before, undone);
    if (undone) return this.store(command, method, "refused-late", settled(compensatedBefore(command)));
    if (isPurged(known, command)) return { answer: unsettled(purged(command)), verdict: "purged" };
    const effect = known.action?.verdict === "executed" || known.action?.verdict === "accepted";
    if (command.direction === "compensation" && !effect) {
      return this.store(command, method, "null-compensated", { reply: new Uint8Array() });
    }
    return this.execute(command, method, run, rules, known.action);
  }

  private execute(
    command: Command, method: string, run: Run, rules: Rules, action: Entry | undefined,
  ): Handled {
    try {
      const made = this.database.handler(method, () => {
        const made = run(action?.verdict === "executed" ? { method: action.method, reply: action.reply } : undefined);
        if (!(made instanceof Pending)) checkSize(made.length, rules, command.direction);
        return made;
      });
      if (made instanceof Pending) return this.store(command, method, "accepted", { pending: made });
      return this.store(command, method, "executed", { reply: made });
    } catch (error) {
      // A compensation's refusal isn't stored, so that an operator can send it again.
      const refuses = error instanceof StatusError && command.direction === "action" && rules.refuses(error.code);
      if (!refuses) throw error;
      return this.store(command, method, "refused", settled(error));
    }
  }

  /** Answers a duplicate. An action that was compensated is refused, whatever it was answered before. */
  private repeat(command: Command, before: Entry, undone: boolean): Handled {
    this.database.run(
      `UPDATE treaty_inbox SET duplicates = duplicates + 1, epoch = max(epoch, ?)
       WHERE command_id = ? AND direction = ?`,
      [command.epoch, command.commandId, command.direction],
    );
    if (undone) {
      const verdict = before.verdict === "refused-late" ? "duplicate" : "refused-late";
      return { answer: settled(compensatedBefore(command)), verdict };
    }
    return { answer: answerOf(before), verdict: "duplicate" };
  }

  private store(command: Command, method: string, verdict: StoredVerdict, answer: Answer): Handled {
    this.database.run(
      `INSERT INTO treaty_inbox (command_id, direction, method, verdict, reply, epoch, attempt, executed_at,
         scope, saga_start, request_digest)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      [command.commandId, command.direction, method, verdict, bytesOf(answer), command.epoch, command.attempt,
        nowMicros(), command.scope, command.start, command.digest],
    );
    return { answer, verdict };
  }

  /**
   * Ends an accepted command with the reply of a handler, which runs in a transaction, at most once. Returns the method
   * and the stored reply, also if the command was completed before. Throws a CompletionError if the command can't be
   * completed, and what the handler throws: then the command stays accepted.
   *
   * @internal
   */
  complete(
    key: CommandKey, run: (method: string) => Uint8Array, rules: (method: string) => Rules = () => defaultRules,
  ): { method: string; reply: Uint8Array } {
    return this.database.transaction(() => {
      const { method, verdict, reply } = this.accepted(key, "executed");
      if (verdict === "executed") return { method, reply };
      const made = this.database.handler(method, () => {
        const made = run(method);
        checkSize(made.length, rules(method), "compensation"); // refuses nothing, so it can be tried again
        return made;
      });
      this.settle(key, "executed", made);
      return { method, reply: made };
    });
  }

  /**
   * Ends an accepted command with a refusal. The handler undoes what the acceptance did, in the same transaction, since
   * no compensation follows for a refused action. The refusal of a compensation isn't stored, so that an operator can
   * send the compensation again. Returns the method and the stored refusal. Throws a CompletionError if the command
   * can't be refused, an error if the code doesn't refuse it, and what the handler throws.
   *
   * @internal
   */
  refuse(
    key: CommandKey, refusal: StatusError, run: () => void = () => {},
    rules: (method: string) => Rules = () => defaultRules,
  ): { method: string; refusal: Uint8Array } {
    return this.database.transaction(() => {
      const { method, verdict, reply } = this.accepted(key, "refused");
      if (verdict === "refused") return { method, refusal: reply };
      if (!rules(method).refuses(refusal.code)) {
        throw new Error(`refusing ${key.commandId} (${key.direction}): the code ${status[refusal.code]} doesn't ` +
          "refuse this command: use one that does");
      }
      this.database.handler(method, run);
      if (key.direction === "action") this.settle(key, "refused", refusal.encoded);
      else this.drop(key);
      return { method, refusal: refusal.encoded };
    });
  }

  /** Returns the entry of a command that can end in a way, or has ended in it. */
  private accepted(key: CommandKey, verdict: "executed" | "refused"): Entry {
    const saga = sagaOf(key.commandId);
    if (saga === undefined) throw new CompletionError("not-accepted", key.commandId, key.direction);
    const known = this.look({ ...key, saga, scope: "" });
    const entry = key.direction === "action" ? known.action : known.compensation;
    if (entry?.verdict === "accepted" && key.direction === "action" && known.compensation !== undefined) {
      throw new CompletionError("compensated", key.commandId, key.direction);
    }
    if (entry?.verdict === "accepted" || entry?.verdict === verdict) return entry;
    const ended = entry?.verdict === "executed" || entry?.verdict === "refused";
    throw new CompletionError(ended ? "completed" : "not-accepted", key.commandId, key.direction);
  }

  private settle(key: CommandKey, verdict: StoredVerdict, reply: Uint8Array): void {
    this.database.run(
      "UPDATE treaty_inbox SET verdict = ?, reply = ?, executed_at = ? WHERE command_id = ? AND direction = ?",
      [verdict, reply, nowMicros(), key.commandId, key.direction],
    );
  }

  private drop(key: CommandKey): void {
    this.database.run(
      "DELETE FROM treaty_inbox WHERE command_id = ? AND direction = ?", [key.commandId, key.direction],
    );
  }

  /** Returns the accepted commands that have been neither completed nor compensated, oldest first. */
  pending(): PendingCommand[] {
    const rows = this.database.all(`
      SELECT command_id, direction, method, reply, executed_at FROM treaty_inbox AS a
      WHERE verdict = 'accepted' AND (direction = 'compensation' OR NOT EXISTS (
        SELECT 1 FROM treaty_inbox AS c WHERE c.command_id = a.command_id AND c.direction = 'compensation'))
      ORDER BY sequence`);
    return rows.map((row) => ({
      commandId: text(row, "command_id"), direction: text(row, "direction") as Direction,
      method: text(row, "method").replace(/^\//, ""), seconds: secondsOf(row["reply"] as Uint8Array),
      acceptTime: new Date(Number(integer(row, "executed_at") / 1000n)),
    }));
  }

  /**
   * Returns what became of an action. If nothing did, nothing shall: it is refused from now on.
   *
   * @internal
   */
  close(command: Command, method: string): Closing {
    return this.database.transaction(() => {
      const known = this.look(command);
      const other = otherRequest(known, command, method);
      if (other !== undefined) throw other;
      if (known.compensation !== undefined) return { outcome: "compensated" };
      if (known.action === undefined) {
        if (isPurged(known, command)) throw purged(command);
        this.store(command, method, "closed", settled(closedBefore(command)));
        return { outcome: "closed" };
      }
      switch (known.action.verdict) {
        case "executed":
          return { outcome: "executed", reply: known.action.reply };
        case "accepted":
        case "closed":
          return { outcome: known.action.verdict };
        default:
          return { outcome: "refused", refusal: known.action.reply };
      }
    });
  }

  /**
   * Returns the rows of a scope, and those without one, after a sequence number.
   *
   * @internal
   */
  list(
    scope: string, selected: { readonly sagas: readonly string[] } | { readonly since: bigint }, after: bigint,
    limit: number,
  ): ListedCommand[] {
    const [from, value] = "sagas" in selected
      ? [`(SELECT DISTINCT value AS saga FROM json_each(?1)) CROSS JOIN treaty_inbox
          ON command_id >= saga || '/steps/' AND command_id <= saga || '/steps0'`, JSON.stringify(selected.sagas)]
      : ["(SELECT * FROM treaty_inbox WHERE executed_at >= ?1)", selected.since];
    const rows = this.database.all(
      `SELECT sequence, command_id, direction, method, verdict, executed_at, saga_start, request_digest
       FROM ${from} WHERE scope IN ('', ?2) AND sequence > ?3 ORDER BY sequence LIMIT ?4`,
      [value, scope, after, limit],
    );
    return rows.map((row) => ({
      sequence: integer(row, "sequence"), commandId: text(row, "command_id"),
      direction: text(row, "direction") as Direction, method: text(row, "method"),
      verdict: text(row, "verdict") as StoredVerdict, digest: text(row, "request_digest"),
      start: integer(row, "saga_start"), updated: integer(row, "executed_at"),
    }));
  }

  /** Returns what is known of a command. */
  private look(command: CommandKey & Pick<Command, "saga" | "scope">): Known {
    const scope = this.scope(command.scope);
    // Without a scope, the epoch is that of the saga, so read all of its rows.
    const range = command.scope === "" ? sagaRange(command.saga) : [command.commandId, command.commandId];
    const rows = this.database.all(
      `SELECT command_id, direction, method, verdict, CASE command_id WHEN ? THEN reply ELSE x'' END AS reply, epoch,
         request_digest
       FROM treaty_inbox WHERE command_id >= ? AND command_id <= ?`, [command.commandId, ...range],
    );
    const of = (direction: Direction): Entry | undefined => {
      const row = rows.find((r) => r["command_id"] === command.commandId && r["direction"] === direction);
      return row === undefined ? undefined : {
        commandId: command.commandId, direction, method: text(row, "method"),
        verdict: text(row, "verdict") as StoredVerdict, reply: row["reply"] as Uint8Array,
        epoch: integer(row, "epoch"), digest: text(row, "request_digest"),
      };
    };
    const highest = rows.map((row) => integer(row, "epoch")).reduce((a, b) => (a > b ? a : b), 0n);
    return {
      action: of("action"), compensation: of("compensation"), epoch: command.scope === "" ? highest : scope.epoch,
      horizon: scope.horizon,
    };
  }

  private scope(name: string): Scope {
    return (name === "" ? undefined : this.knownScope(name)) ?? unknownScope;
  }

  private knownScope(name: string): Scope | undefined {
    const row = this.database.get(
      "SELECT epoch, position, store_id, horizon FROM treaty_inbox_scopes WHERE scope = ?", [name],
    );
    return row === undefined ? undefined : {
      epoch: integer(row, "epoch"), position: integer(row, "position"), storeId: text(row, "store_id"),
      horizon: integer(row, "horizon"),
    };
  }

  private putScope(name: string, scope: Scope): void {
    this.database.transaction(() => this.database.run(
      `INSERT INTO treaty_inbox_scopes (scope, epoch, position, store_id, horizon, heard_at) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (scope) DO UPDATE SET epoch = excluded.epoch, position = excluded.position,
         store_id = excluded.store_id, horizon = excluded.horizon, heard_at = excluded.heard_at`,
      [name, scope.epoch, scope.position, scope.storeId, scope.horizon, nowMicros()],
    ));
  }

  /** Raises a scope's epoch, in a transaction of its own. Returns what was known before. */
  private raise(name: string, epoch: bigint): Scope | undefined {
    const known = this.knownScope(name);
    if (known === undefined || epoch > known.epoch) this.putScope(name, { ...(known ?? unknownScope), epoch });
    return known;
  }

  /**
   * Raises a scope's epoch, and stores what its orchestrator says. Returns what was known before, or undefined if
   * nothing was. Throws STALE_EPOCH if a higher epoch is known.
   *
   * @internal
   */
  hear(name: string, epoch: bigint, told?: Omit<Scope, "epoch">): Scope | undefined {
    const known = this.raise(name, epoch);
    if (known !== undefined && epoch < known.epoch) throw stale(`a call of ${name}`, epoch, known.epoch);
    if (told !== undefined) {
      const before = known ?? unknownScope;
      this.putScope(name, {
        epoch, storeId: told.storeId || before.storeId, position: max(told.position, before.position),
        horizon: max(told.horizon, before.horizon),
      });
    }
    return known;
  }

  /**
   * Forgets an orchestrator that is gone for good: its rows are deleted by the retention alone. A command of a saga
   * that it started before this call isn't executed any more.
   */
  dropScope(name: string): void {
    this.putScope(name, { ...this.scope(name), horizon: nowMicros() });
  }

  private purgeSometimes(): void {
    const { retentionSeconds } = this.options;
    if (retentionSeconds === undefined || ++this.stored % purgeEvery !== 0) return;
    const before = nowMicros() - BigInt(Math.round(retentionSeconds * 1e6));
    try {
      this.purgedUpTo = this.purgeBatch(before, this.purgedUpTo).last;
    } catch (error) {
      if (!databaseFailed(error)) throw error; // it is tried again later
    }
  }

  /**
   * Deletes the commands whose newest row is older than a time, and whose saga sends no more commands as far as its
   * orchestrator has said so. Pending commands are kept. Returns how many rows it deleted.
   */
  purge(before: Date): number {
    let total = 0;
    for (let last = 0n;;) {
      const batch = this.purgeBatch(BigInt(before.getTime()) * 1000n, last);
      total += batch.deleted;
      last = batch.last;
      if (last === 0n) return total;
    }
  }

  /** Looks at a batch of rows after a sequence number. Returns the last one, or 0 if there was no row. */
  private purgeBatch(before: bigint, after: bigint): { deleted: number; last: bigint } {
    return this.database.transaction(() => {
      // A batch is a range of rows, so it never scans the whole table.
      const found = this.database.get(
        `SELECT coalesce(max(sequence), 0) AS last
         FROM (SELECT sequence FROM treaty_inbox WHERE sequence > ? ORDER BY sequence LIMIT 2000)`, [after],
      );
      const last = found === undefined ? 0n : integer(found, "last");
      if (last === 0n) return { deleted: 0, last };
      // A command's rows are deleted together, when the newest is old enough and the command isn't pending.
      const { changes } = this.database.run(
        `DELETE FROM treaty_inbox WHERE command_id IN (
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
        [after, last, before],
      );
      return { deleted: changes, last };
    });
  }
}

function text(row: Row, column: string): string {
  return String(row[column]);
}

function integer(row: Row, column: string): bigint {
  return BigInt(row[column] as number | bigint);
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/** Returns the seconds of a stored acceptance. */
function secondsOf(reply: Uint8Array): number {
  return Number(Buffer.from(reply).toString("latin1"));
}

function bytesOf(answer: Answer): Uint8Array {
  if ("reply" in answer) return answer.reply;
  return "pending" in answer ? Buffer.from(String(answer.pending.seconds)) : answer.refusal;
}

function answerOf({ verdict, reply }: Entry): Answer {
  switch (verdict) {
    case "accepted":
      return { pending: new Pending(secondsOf(reply)) };
    case "refused":
    case "refused-late":
    case "closed":
      return { refusal: reply, settled: true };
    default:
      return { reply };
  }
}

function settled(refusal: StatusError): Answer {
  return { refusal: refusal.encoded, settled: true };
}

function unsettled(refusal: StatusError): Answer {
  return { refusal: refusal.encoded, settled: false };
}

/**
 * Returns texts between which all command ids of a saga lie, and no others: they lie between "{saga}/steps/" and
 * "{saga}/steps0", because "0" follows "/".
 */
function sagaRange(saga: string): [string, string] {
  return [`${saga}/steps/`, `${saga}/steps0`];
}
