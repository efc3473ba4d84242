// The inbox commits an effect together with its reply, once for each command id and direction. Its rules and its table
// are the same for every participant; see docs/participants.md.

import { status } from "@grpc/grpc-js";
import type { Command } from "./command.js";
import type { Database } from "./database.js";
import { Refusal } from "./status.js";

export type Verdict = "executed" | "refused" | "duplicate" | "null-compensated" | "refused-late" | "stale";

/** An answer: a serialized reply, or a serialized google.rpc.Status. */
export type Answer = { reply: Uint8Array } | { refusal: Uint8Array };

interface Row {
  command_id: string;
  direction: string;
  method: string;
  verdict: Verdict;
  reply: Uint8Array;
  epoch: number | bigint;
}

export class Inbox {
  constructor(private readonly database: Database) {}

  /**
   * Runs a handler, which returns its serialized reply, in a transaction. This process has one thread and exclusive use
   * of the database, so no other command runs in between. If the handler throws a Refusal, its effect is rolled back
   * and the refusal is stored. Anything else that it throws is thrown again, and nothing is stored.
   */
  handle(
    command: Command | undefined, method: string, handler: () => Uint8Array,
  ): { answer: Answer; verdict?: Verdict } {
    this.database.exec("BEGIN IMMEDIATE");
    try {
      const handled = command === undefined ? { answer: { reply: handler() } } : this.decide(command, method, handler);
      this.database.exec("COMMIT");
      return handled;
    } catch (error) {
      if (this.database.inTransaction) this.database.exec("ROLLBACK");
      throw error;
    }
  }

  private decide(command: Command, method: string, handler: () => Uint8Array): { answer: Answer; verdict: Verdict } {
    const { action, compensation, epoch } = this.look(command);
    if (command.epoch < epoch) {
      const message = `${command.commandId} was sent under epoch ${command.epoch}, which epoch ${epoch} has replaced`;
      const stale = new Refusal(status.ABORTED, message, "STALE_EPOCH");
      return { answer: { refusal: stale.encoded }, verdict: "stale" };
    }
    const before = command.direction === "action" ? action : compensation;
    if (before !== undefined) return this.repeat(command, method, before);
    if (command.direction === "action" && compensation !== undefined) {
      const message = `${command.commandId} was compensated before it arrived`;
      const late = new Refusal(status.FAILED_PRECONDITION, message, "COMPENSATED_BEFORE");
      return this.store(command, method, "refused-late", { refusal: late.encoded });
    }
    if (command.direction === "compensation" && action?.verdict !== "executed") {
      return this.store(command, method, "null-compensated", { reply: new Uint8Array() });
    }
    return this.execute(command, method, handler);
  }

  private execute(command: Command, method: string, handler: () => Uint8Array): { answer: Answer; verdict: Verdict } {
    this.database.exec("SAVEPOINT treaty_handler");
    try {
      return this.store(command, method, "executed", { reply: handler() });
    } catch (error) {
      // A compensation's refusal isn't stored, so that an operator can send it again.
      if (!(error instanceof Refusal) || !error.refuses || command.direction === "compensation") throw error;
      this.database.exec("ROLLBACK TO treaty_handler");
      return this.store(command, method, "refused", { refusal: error.encoded });
    }
  }

  private repeat(command: Command, method: string, before: Row): { answer: Answer; verdict: Verdict } {
    if (before.method !== method) {
      throw new Refusal(
        status.INTERNAL,
        `${command.commandId} (${command.direction}) was sent to ${before.method} before and to ${method} now`,
      );
    }
    this.database.run(
      `UPDATE treaty_inbox SET duplicates = duplicates + 1, epoch = max(epoch, ?)
       WHERE command_id = ? AND direction = ?`,
      [command.epoch, command.commandId, command.direction],
    );
    const refused = before.verdict === "refused" || before.verdict === "refused-late";
    return { answer: refused ? { refusal: before.reply } : { reply: before.reply }, verdict: "duplicate" };
  }

  private store(
    command: Command, method: string, verdict: Verdict, answer: Answer,
  ): { answer: Answer; verdict: Verdict } {
    this.database.run(
      `INSERT INTO treaty_inbox (command_id, direction, method, verdict, reply, epoch, attempt, executed_at)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
      [command.commandId, command.direction, method, verdict, "reply" in answer ? answer.reply : answer.refusal,
        command.epoch, command.attempt, nowMicros()],
    );
    return { answer, verdict };
  }

  /** Returns the stored rows of a command, and the highest epoch of its saga. */
  private look(command: Command): { action?: Row; compensation?: Row; epoch: bigint } {
    // The saga's rows lie between "{saga}/steps/" and "{saga}/steps0", because "0" follows "/".
    const rows = this.database.all(
      `SELECT command_id, direction, method, verdict, reply, epoch FROM treaty_inbox
       WHERE command_id > ? AND command_id < ?`,
      [`${command.saga}/steps/`, `${command.saga}/steps0`],
    ) as unknown as Row[];
    const of = (direction: string) => rows.find((r) => r.command_id === command.commandId && r.direction === direction);
    const epoch = rows.reduce((highest, r) => (BigInt(r.epoch) > highest ? BigInt(r.epoch) : highest), 0n);
    return { action: of("action"), compensation: of("compensation"), epoch };
  }
}

/** Returns the current time in microseconds since 1970. */
export function nowMicros(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000));
}
