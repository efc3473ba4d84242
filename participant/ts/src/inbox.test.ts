import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import type { Command, Direction } from "./command.js";
import { Database } from "./database.js";
import { defaultRules, Inbox, maxReplyBytes, type Answer, type Rules } from "./inbox.js";
import { CompletionError, Pending } from "./pending.js";
import { decodeStatus, StatusError } from "./status.js";

/** Calls f with the path of a database that doesn't exist yet. */
function withPath(f: (path: string) => void): void {
  const directory = mkdtempSync(join(tmpdir(), "inbox"));
  try {
    f(join(directory, "test.db"));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Calls f with a new database that has a table of effects. */
function withDatabase(f: (database: Database) => void): void {
  withPath((path) => {
    const database = Database.open(path, ["CREATE TABLE effects (name TEXT NOT NULL)"]);
    try {
      f(database);
    } finally {
      database.close();
    }
  });
}

function effectsIn(database: Database): string[] {
  return database.all("SELECT name FROM effects ORDER BY rowid").map((row) => String(row["name"]));
}

function command(more: Partial<Command> = {}): Command {
  const { commandId = "sagas/s/steps/1" } = more;
  return {
    saga: commandId.slice(0, commandId.indexOf("/steps/")), commandId, direction: "action", attempt: 1, epoch: 0n,
    scope: "", start: 0n, digest: "", ...more,
  };
}

function describe(answer: Answer): string {
  if ("reply" in answer) return Buffer.from(answer.reply).toString();
  if ("pending" in answer) return `pending ${answer.pending.seconds}`;
  return status[decodeStatus(answer.refusal).code] + (answer.settled ? " settled" : "");
}

/** Returns what came of a call, or the error that was thrown. */
function outcome(f: () => string): string {
  try {
    return f();
  } catch (error) {
    if (error instanceof StatusError) return status[error.code];
    return error instanceof CompletionError ? error.problem : String(error);
  }
}

/**
 * Makes one call: "a" is an action, "u" its compensation; "!" refuses, "~" fails for now, "@" accepts, "&" replies with
 * too much; a digit is the epoch, "s" sends a scope, "x" and "y" are digests, "h" a start before the horizon, "o"
 * calls another method. "c" completes the action, "C" the compensation, "r" and "R" refuse them, "k" closes it.
 */
function call(inbox: Inbox, letters: string, rules: Rules = defaultRules): string {
  const direction: Direction = /^[uCR]/.test(letters) ? "compensation" : "action";
  const effect = (name: string) => inbox.database.run("INSERT INTO effects VALUES (?)", [name]);
  const sent = command({
    direction, epoch: BigInt(/\d/.exec(letters)?.[0] ?? 0), scope: letters.includes("s") ? "/0" : "",
    start: letters.includes("h") ? 1n : 0n, digest: /[xy]/.exec(letters)?.[0] ?? "",
  });
  const no = new StatusError(status.FAILED_PRECONDITION, "no");
  return outcome(() => {
    switch (letters[0]) {
      case "c":
      case "C":
        return Buffer.from(inbox.complete(sent, () => {
          effect(`${direction} completed`);
          return Buffer.from("done");
        }).reply).toString();
      case "r":
      case "R":
        return describe({
          refusal: inbox.refuse(sent, no, () => effect(`${direction} refused`)).refusal, settled: true,
        });
      case "k": {
        const closed = inbox.close(sent, "/m");
        return closed.outcome;
      }
      default: {
        const { answer, verdict } = inbox.handle(sent, letters.includes("o") ? "/other" : "/m", (action) => {
          effect(direction);
          if (letters.includes("!")) throw no;
          if (letters.includes("~")) throw new StatusError(status.ABORTED, "busy");
          if (letters.includes("@")) return new Pending(30);
          if (letters.includes("&")) return new Uint8Array(maxReplyBytes + 1);
          return Buffer.from(direction === "action" ? "action" : `undo of ${action && Buffer.from(action.reply)}`);
        }, rules);
        return `${verdict} ${describe(answer)}`.trim();
      }
    }
  });
}

const late = "FAILED_PRECONDITION settled";
const undo = "undo of action";

for (const [calls, want, effects] of [
  ["a", ["executed action"], ["action"]],
  ["a a", ["executed action", "duplicate action"], ["action"]],
  [
    "a u u a", ["executed action", `executed ${undo}`, `duplicate ${undo}`, `refused-late ${late}`],
    ["action", "compensation"],
  ],
  ["u u", ["null-compensated", "duplicate"], []],
  ["u a a", ["null-compensated", `refused-late ${late}`, `duplicate ${late}`], []],
  ["a! a u a", [`refused ${late}`, `duplicate ${late}`, "null-compensated", `refused-late ${late}`], []],
  ["a~ a", ["ABORTED", "executed action"], ["action"]],
  ["a u! u", ["executed action", "FAILED_PRECONDITION", `executed ${undo}`], ["action", "compensation"]],
  [
    "a2 a1 u1 u2", ["executed action", "stale ABORTED", "stale ABORTED", `executed ${undo}`],
    ["action", "compensation"],
  ],
  ["as2 as1 us2", ["executed action", "stale ABORTED", `executed ${undo}`], ["action", "compensation"]],
  ["as2~ as1", ["ABORTED", "stale ABORTED"], []],
  ["ax ay uy a ux", [
    "executed action", "other-request INTERNAL", "other-request INTERNAL", "duplicate action", `executed ${undo}`,
  ], ["action", "compensation"]],
  // What decides first: the epoch, then the request, then the compensation.
  ["as2x as1y as2y usx2 asy2 as1x", [
    "executed action", "stale ABORTED", "other-request INTERNAL", `executed ${undo}`, "other-request INTERNAL",
    "stale ABORTED",
  ], ["action", "compensation"]],
  ["a ao uo", ["executed action", "other-request INTERNAL", `executed ${undo}`], ["action", "compensation"]],
  ["a& a u", ["refused OUT_OF_RANGE settled", "duplicate OUT_OF_RANGE settled", "null-compensated"], []],
  ["a u& u", ["executed action", "OUT_OF_RANGE", `executed ${undo}`], ["action", "compensation"]],
  // Commands that take long.
  ["a@ a c a c", ["accepted pending 30", "duplicate pending 30", "done", "duplicate done", "done"],
    ["action", "action completed"]],
  ["a@ r r a c", ["accepted pending 30", late, late, `duplicate ${late}`, "completed"], ["action", "action refused"]],
  ["a@ c r", ["accepted pending 30", "done", "completed"], ["action", "action completed"]],
  ["a@ u c a u", [
    "accepted pending 30", "executed undo of undefined", "compensated", `refused-late ${late}`,
    "duplicate undo of undefined",
  ], ["action", "compensation"]],
  ["a u@ u C u", ["executed action", "accepted pending 30", "duplicate pending 30", "done", "duplicate done"],
    ["action", "compensation", "compensation completed"]],
  ["a u@ R u", ["executed action", "accepted pending 30", late, `executed ${undo}`],
    ["action", "compensation", "compensation refused", "compensation"]],
  ["c a c u", ["not-accepted", "executed action", "action", `executed ${undo}`], ["action", "compensation"]],
  ["u a c", ["null-compensated", `refused-late ${late}`, "not-accepted"], []],
  // What became of an action, and if nothing did, nothing shall.
  ["k a u k", ["closed", `duplicate ${late}`, "null-compensated", "compensated"], []],
  ["a k", ["executed action", "executed"], ["action"]],
  ["a! k", [`refused ${late}`, "refused"], []],
  ["a@ k", ["accepted pending 30", "accepted"], ["action"]],
  ["ax kx ky", ["executed action", "executed", "INTERNAL"], ["action"]],
] as [string, string[], string[]][]) {
  test(`sequence ${calls}`, () => withPath((path) => {
    const got = calls.split(" ").map((letters) => {
      // Each call is handled by a new process.
      const database = Database.open(path, ["CREATE TABLE effects (name TEXT NOT NULL)"]);
      try {
        return call(new Inbox(database), letters);
      } finally {
        database.close();
      }
    });
    assert.deepEqual(got, want);
    const database = Database.open(path, ["CREATE TABLE effects (name TEXT NOT NULL)"]);
    assert.deepEqual(effectsIn(database), effects);
    database.close();
  }));
}

test("a retriable command isn't refused for good because its reply is too large", () => withDatabase((database) => {
  const inbox = new Inbox(database);
  const rules: Rules = { ...defaultRules, retriable: true };
  assert.equal(call(inbox, "a&", rules), "INTERNAL");
  assert.equal(call(inbox, "a", rules), "executed action");
  assert.deepEqual(effectsIn(database), ["action"]);
}));

test("a contract may say that a code refuses, or doesn't", () => withDatabase((database) => {
  const inbox = new Inbox(database);
  const other: Rules = { ...defaultRules, refuses: (code) => code === status.ABORTED };
  assert.equal(call(inbox, "a!", other), "FAILED_PRECONDITION");
  assert.equal(call(inbox, "a~", other), "refused ABORTED settled");
}));

test("an epoch far ahead isn't remembered", () => withDatabase((database) => {
  const inbox = new Inbox(database);
  const run = () => Buffer.from("done");
  const now = BigInt(Date.now()) << 20n;
  const day = BigInt(24 * 60 * 60 * 1000) << 20n;
  assert.equal(outcome(() => {
    inbox.handle(command({ scope: "/0", epoch: now + day + day / 24n }), "/m", run);
    return "handled";
  }), "UNAUTHENTICATED");
  assert.equal(inbox.handle(command({ scope: "/0", epoch: now }), "/m", run).verdict, "executed");
}));

test("a command from before the horizon isn't executed", () => withDatabase((database) => {
  const inbox = new Inbox(database);
  const sent = (commandId: string, start: bigint) => inbox.handle(
    command({ commandId, scope: "/0", epoch: 5n, start }), "/m", () => Buffer.from("done"),
  ).verdict;
  assert.equal(sent("sagas/a/steps/1", 10n), "executed");
  inbox.hear("/0", 5n, { position: 1n, storeId: "store", horizon: 20n });
  assert.equal(sent("sagas/a/steps/1", 10n), "duplicate");
  assert.equal(sent("sagas/b/steps/1", 10n), "purged");
  assert.equal(sent("sagas/b/steps/1", 20n), "executed");
  assert.throws(() => inbox.close(command({ commandId: "sagas/c/steps/1", scope: "/0", epoch: 5n, start: 1n }), "/m"),
    /no longer known/);
  // A horizon never moves back, and a scope that was dropped is at its horizon now.
  inbox.hear("/0", 5n, { position: 0n, storeId: "", horizon: 1n });
  assert.equal(sent("sagas/d/steps/1", 10n), "purged");
  inbox.dropScope("/0");
  assert.equal(sent("sagas/e/steps/1", 1_000_000_000n), "purged");
}));

test("rows are deleted when they are old and their saga is before the horizon", () => withDatabase((database) => {
  const inbox = new Inbox(database);
  const send = (commandId: string, more: Partial<Command>, made: Uint8Array | Pending = Buffer.from("done")) =>
    inbox.handle(command({ commandId, epoch: 1n, ...more }), "/m", () => made);
  send("sagas/old/steps/1", { scope: "/0", start: 5n });
  send("sagas/open/steps/1", { scope: "/0", start: 15n });
  send("sagas/other/steps/1", { scope: "/1", start: 5n });
  send("sagas/pending/steps/1", { scope: "/0", start: 5n }, new Pending(1));
  send("sagas/older/steps/1", {});
  inbox.hear("/0", 1n, { position: 0n, storeId: "", horizon: 10n });
  assert.equal(inbox.purge(new Date(0)), 0);
  assert.equal(inbox.purge(new Date(Date.now() + 1000)), 2);
  const left = database.all("SELECT command_id FROM treaty_inbox ORDER BY sequence").map((row) => row["command_id"]);
  assert.deepEqual(left, ["sagas/open/steps/1", "sagas/other/steps/1", "sagas/pending/steps/1"]);
}));

test("old rows are deleted while new ones are added", () => withDatabase((database) => {
  const inbox = new Inbox(database, { retentionSeconds: 0 });
  database.exec("PRAGMA synchronous = OFF");
  for (let i = 0; i < 1000; i++) {
    inbox.handle(command({ commandId: `sagas/${i}/steps/1` }), "/m", () => Buffer.from("done"));
  }
  const rows = Number(database.get("SELECT count(*) AS n FROM treaty_inbox")?.["n"]);
  assert.ok(rows < 1000, `${rows} rows are left`);
}));

test("pending commands", () => withDatabase((database) => {
  const inbox = new Inbox(database);
  for (const [id, direction] of [["1", "action"], ["2", "action"], ["3", "action"], ["2", "compensation"]] as const) {
    inbox.handle(command({ commandId: `sagas/s/steps/${id}`, direction }), `/a.B/${direction}`, () => new Pending(60));
  }
  inbox.complete(command({ commandId: "sagas/s/steps/3" }), () => Buffer.from("done"));
  assert.deepEqual(inbox.pending().map((p) => `${p.commandId} ${p.direction} ${p.method} ${p.seconds}`), [
    "sagas/s/steps/1 action a.B/action 60", "sagas/s/steps/2 compensation a.B/compensation 60",
  ]);
}));

for (const [what, made, want] of [
  ["commits", (d: Database) => d.exec("INSERT INTO effects VALUES ('x'); COMMIT"), /ends its transaction/],
  ["rolls back", (d: Database) => d.run("rollback"), /ends its transaction/],
  ["begins another transaction", (d: Database) => d.transaction(() => {}), /has one already/],
  ["calls the inbox", (d: Database) => new Inbox(d), /has one already/],
] as [string, (database: Database) => void, RegExp][]) {
  test(`a handler that ${what} fails, and nothing is committed`, () => withDatabase((database) => {
    const inbox = new Inbox(database);
    for (const caught of [false, true]) {
      assert.throws(() => inbox.handle(command(), "/a.B/C", () => {
        database.run("INSERT INTO effects VALUES ('effect')");
        try {
          made(database);
        } catch (error) {
          if (!caught) throw error;
        }
        return Buffer.from("done");
      }), (error) => error instanceof Error && want.test(error.message) && error.message.includes("a.B/C"));
    }
    assert.deepEqual(effectsIn(database), []);
    assert.equal(call(inbox, "a"), "executed action");
  }));
}

test("a person's call can't be accepted", () => withDatabase((database) => {
  const inbox = new Inbox(database);
  assert.throws(() => inbox.handle(undefined, "/a.B/C", () => {
    database.run("INSERT INTO effects VALUES ('effect')");
    return new Pending(1);
  }), (error) => error instanceof StatusError && error.code === status.FAILED_PRECONDITION);
  assert.deepEqual(effectsIn(database), []);
}));

test("listing the rows of many sagas", () => withDatabase((database) => {
  const inbox = new Inbox(database);
  const sagas = Array.from({ length: 1000 }, (_, i) => `sagas/${i}`);
  for (const saga of ["sagas/1", "sagas/999", "sagas/9990"]) {
    inbox.handle(command({ commandId: `${saga}/steps/1`, scope: "/0", epoch: 1n }), "/m", () => Buffer.from("done"));
  }
  inbox.handle(command({ commandId: "sagas/2/steps/1", scope: "/1", epoch: 1n }), "/m", () => Buffer.from("done"));
  const ids = inbox.list("/0", { sagas: [...sagas, "sagas/1"] }, 0n, 10).map((row) => row.commandId);
  assert.deepEqual(ids, ["sagas/1/steps/1", "sagas/999/steps/1"]);
  const since = inbox.list("/0", { since: 0n }, 1n, 1).map((row) => row.commandId);
  assert.deepEqual(since, ["sagas/999/steps/1"]);
}));
