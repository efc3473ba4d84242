// The inbox commits the effect of a command together with its answer, once for each command id and direction. It is the
// same for every participant in TypeScript.

import { Metadata, status, type ServerErrorResponse } from "@grpc/grpc-js";
import sqlite from "node-sqlite3-wasm";
import protobuf from "protobufjs";

export type Database = InstanceType<typeof sqlite.Database>;

// google.rpc.Status and the messages in it, of which only these fields are used.
const types = protobuf.parse(`syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
`, { keepCase: true }).root;
const Status = types.lookupType("Status");
const ErrorInfo = types.lookupType("ErrorInfo");

/** A message in the details of an error. */
export interface Detail {
  type_url: string;
  value: Uint8Array;
}

/** Returns a detail: the message's full name, and its serialized form. */
export function detail(name: string, value: Uint8Array): Detail {
  return { type_url: `type.googleapis.com/${name}`, value };
}

/** An error whose status reaches the caller. */
export class Failure extends Error {
  readonly encoded: Uint8Array;

  constructor(readonly code: status, message: string, ...details: Detail[]) {
    super(message);
    this.encoded = Status.encode({ code, message, details }).finish();
  }
}

/** Returns an error with one of Treaty's reasons. */
function because(code: status, reason: string, message: string, metadata: Record<string, string> = {}): Failure {
  const info = ErrorInfo.encode({ reason, domain: "treaty", metadata }).finish();
  return new Failure(code, message, detail("google.rpc.ErrorInfo", info));
}

/** Returns an answer with a serialized google.rpc.Status, and with the mark that says what the answer covers. */
export function answer(encoded: Uint8Array, mark: "settled" | "attempt"): ServerErrorResponse {
  const { code, message } = Status.decode(encoded) as unknown as { code: status; message: string };
  const metadata = new Metadata();
  metadata.set("treaty-answer", mark);
  metadata.set("grpc-status-details-bin", Buffer.from(encoded));
  return Object.assign(new Error(message), { code, details: message, metadata });
}

export interface Command {
  commandId: string;
  direction: "action" | "compensation";
  attempt: number;
  epoch: bigint;
  scope: string;
  start: bigint;
  digest: string;
}

const keys = [
  "saga", "command-id", "direction", "attempt", "epoch", "scope", "start", "request-digest",
].map((key) => `treaty-${key}`);

/** Reads a command. Returns undefined if the call isn't made for a saga: it has none of the keys. */
export function parseCommand(metadata: Metadata): Command | undefined {
  if (keys.every((key) => metadata.get(key).length === 0)) return undefined;
  // What is malformed can't be recognized when it comes again, so it isn't executed.
  const read = (key: string, pattern: RegExp, missing?: string) => {
    const values = metadata.get(key);
    const value = String(values[0] ?? missing ?? "");
    if (values.length <= 1 && (pattern.test(value) || (values.length === 0 && missing !== undefined))) return value;
    throw because(status.INVALID_ARGUMENT, "METADATA_INVALID", `metadata ${key}: is malformed`);
  };
  const commandId = read("treaty-command-id", /^sagas\/[^/]+\/steps\/[^/]+$/);
  const saga = commandId.slice(0, commandId.indexOf("/steps/"));
  if (read("treaty-saga", /./, saga) !== saga) {
    throw because(status.INVALID_ARGUMENT, "METADATA_INVALID", "metadata treaty-saga: isn't that of the command id");
  }
  const command: Command = {
    commandId,
    direction: read("treaty-direction", /^(action|compensation)$/) as Command["direction"],
    attempt: Number(read("treaty-attempt", /^[1-9][0-9]{0,8}$/, "1")),
    epoch: BigInt(read("treaty-epoch", /^[0-9]{1,19}$/, "0")),
    scope: read("treaty-scope", /^[!-.0-~]{0,100}\/[!-.0-~]{1,20}$/, ""),
    start: BigInt(read("treaty-start", /^[0-9]{1,18}$/, "0")),
    digest: read("treaty-request-digest", /^[0-9a-f]{64}$/, ""),
  };
  // The upper bits of an epoch are milliseconds. One from the far future would shut out every later one.
  if (command.epoch >> 20n > BigInt(Date.now() + 24 * 60 * 60 * 1000)) {
    throw because(status.UNAUTHENTICATED, "EPOCH_AHEAD", "the epoch is more than a day ahead of this clock");
  }
  return command;
}

interface Row {
  direction: string;
  method: string;
  verdict: string;
  reply: Uint8Array;
  digest: string;
}

/** Returns the serialized reply. It is called with the action's reply if the command is a compensation. */
export type Handler = (actionReply?: Uint8Array) => Uint8Array;

/** A serialized reply, or a serialized google.rpc.Status. Both are stored. */
export type Answer = { reply: Uint8Array } | { refusal: Uint8Array };

const refusing: status[] = [
  status.INVALID_ARGUMENT, status.NOT_FOUND, status.ALREADY_EXISTS, status.FAILED_PRECONDITION, status.OUT_OF_RANGE,
  status.PERMISSION_DENIED,
];

export class Inbox {
  /** The database belongs to this process alone, which has one thread. So transactions run one after the other. */
  constructor(private readonly database: Database) {
    database.exec(`
      CREATE TABLE IF NOT EXISTS inbox (
        command_id TEXT NOT NULL, direction TEXT NOT NULL, method TEXT NOT NULL, verdict TEXT NOT NULL,
        reply BLOB NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (command_id, direction)
      );
      CREATE TABLE IF NOT EXISTS scopes (scope TEXT PRIMARY KEY, epoch INTEGER NOT NULL)`);
  }

  /**
   * Runs a handler in a transaction, unless the command was handled before. Returns the reply, or a refusal that holds
   * for every attempt. Throws a Failure, or what the handler throws: it holds for this attempt.
   */
  handle(metadata: Metadata, method: string, handler: Handler): Answer {
    const command = parseCommand(metadata);
    if (command === undefined) return this.transaction(() => ({ reply: handler() }));
    this.hear(command);
    return this.transaction(() => this.decide(command, method, handler));
  }

  /** Raises the epoch of the command's scope, or throws if a later one is known. */
  private hear({ scope, epoch, commandId }: Command): void {
    if (scope === "") return; // an orchestrator of an earlier version
    const known = this.transaction(() => {
      const row = this.database.get("SELECT epoch FROM scopes WHERE scope = ?", [scope]);
      const known = BigInt((row?.["epoch"] as number | bigint | undefined) ?? 0);
      if (epoch > known) this.database.run("INSERT OR REPLACE INTO scopes VALUES (?, ?)", [scope, epoch]);
      return known;
    });
    if (epoch >= known) return;
    throw because(status.ABORTED, "STALE_EPOCH", `${commandId}: epoch ${epoch} was replaced by ${known}`, {
      epoch: String(known),
    });
  }

  private decide(c: Command, method: string, handler: Handler): Answer {
    const rows = this.database.all(
      "SELECT direction, method, verdict, reply, digest FROM inbox WHERE command_id = ?", [c.commandId],
    ) as unknown as Row[];
    for (const row of rows) {
      const otherMethod = row.direction === c.direction && row.method !== method;
      const otherDigest = row.digest !== "" && c.digest !== "" && row.digest !== c.digest;
      if (otherMethod || otherDigest) {
        throw because(status.INTERNAL, "OTHER_REQUEST", `${c.commandId} is known as another request`, {
          method: row.method.slice(1), digest: row.digest,
        });
      }
    }
    const action = rows.find((row) => row.direction === "action");
    const compensation = rows.find((row) => row.direction === "compensation");
    const store = (verdict: string, reply: Uint8Array): Answer => {
      this.database.run("INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?)", [
        c.commandId, c.direction, method, verdict, reply, c.digest,
      ]);
      return verdict === "refused" ? { refusal: reply } : { reply };
    };
    if (c.direction === "action" && compensation !== undefined) {
      const late = because(status.FAILED_PRECONDITION, "COMPENSATED_BEFORE", `${c.commandId} was compensated`).encoded;
      return action === undefined ? store("refused", late) : { refusal: late };
    }
    const before = c.direction === "action" ? action : compensation;
    if (before !== undefined) return before.verdict === "refused" ? { refusal: before.reply } : { reply: before.reply };
    if (c.direction === "compensation" && action?.verdict !== "executed") {
      return store("nothing to undo", new Uint8Array());
    }
    this.database.exec("SAVEPOINT handler");
    try {
      return store("executed", handler(action?.reply));
    } catch (error) {
      // A compensation's refusal isn't stored, so that an operator can send it again.
      if (!(error instanceof Failure) || !refusing.includes(error.code) || c.direction !== "action") throw error;
      this.database.exec("ROLLBACK TO handler");
      return store("refused", error.encoded);
    }
  }

  private transaction<T>(run: () => T): T {
    this.database.exec("BEGIN IMMEDIATE");
    try {
      const result = run();
      this.database.exec("COMMIT");
      return result;
    } catch (error) {
      if (this.database.inTransaction) this.database.exec("ROLLBACK");
      throw error;
    }
  }
}
