import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Metadata, status } from "@grpc/grpc-js";
import { parseCommand, type Command, type Direction } from "./command.js";
import { closeDatabase, openDatabase } from "./database.js";
import { Inbox } from "./inbox.js";
import { Refusal, response } from "./status.js";

const refused = new Refusal(status.FAILED_PRECONDITION, "no");
const conflict = new Refusal(status.ABORTED, "busy");

/**
 * Makes one call: "a" is an action, "u" its compensation; "!" refuses, "~" fails for now; a digit is the epoch, "s" sends
 * a scope, "x" and "y" are digests.
 */
function call(inbox: Inbox, effects: string[], letter: string): string {
  const direction: Direction = letter.startsWith("a") ? "action" : "compensation";
  const command: Command = {
    saga: "sagas/s", commandId: "sagas/s/steps/1", direction, attempt: 1, epoch: BigInt(/\d/.exec(letter)?.[0] ?? 0),
    scope: letter.includes("s") ? "/0" : "", start: 0n, digest: /[xy]/.exec(letter)?.[0] ?? "",
  };
  try {
    const { answer, verdict } = inbox.handle(command, "/m", () => {
      if (letter.includes("!")) throw refused;
      if (letter.includes("~")) throw conflict;
      effects.push(direction);
      return Buffer.from(direction);
    });
    const text = "reply" in answer
      ? Buffer.from(answer.reply).toString()
      : status[response(answer.refusal, "settled").code!];
    return `${verdict} ${text}`.trim();
  } catch (error) {
    return error instanceof Refusal ? status[error.code]! : String(error);
  }
}

const late = "FAILED_PRECONDITION";

for (const [calls, want, effects] of [
  ["a", ["executed action"], ["action"]],
  ["a a", ["executed action", "duplicate action"], ["action"]],
  [
    "a u u a", ["executed action", "executed compensation", "duplicate compensation", `refused-late ${late}`],
    ["action", "compensation"],
  ],
  ["u u", ["null-compensated", "duplicate"], []],
  ["u a a", ["null-compensated", `refused-late ${late}`, `duplicate ${late}`], []],
  ["a! a u a", [`refused ${late}`, `duplicate ${late}`, "null-compensated", `refused-late ${late}`], []],
  ["a~ a", ["ABORTED", "executed action"], ["action"]],
  ["a u! u", ["executed action", late, "executed compensation"], ["action", "compensation"]],
  [
    "a2 a1 u1 u2", ["executed action", "stale ABORTED", "stale ABORTED", "executed compensation"],
    ["action", "compensation"],
  ],
  ["as2 as1 us2", ["executed action", "stale ABORTED", "executed compensation"], ["action", "compensation"]],
  ["as2~ as1", ["ABORTED", "stale ABORTED"], []],
  ["ax ay uy a ux", [
    "executed action", "other-request INTERNAL", "other-request INTERNAL", "duplicate action", "executed compensation",
  ], ["action", "compensation"]],
] as [string, string[], string[]][]) {
  test(`sequence ${calls}`, () => {
    const directory = mkdtempSync(join(tmpdir(), "inbox"));
    try {
      const path = join(directory, "test.db");
      const done: string[] = [];
      const got = calls.split(" ").map((letter) => {
        // Each call is handled by a new process.
        const database = openDatabase(path);
        try {
          return call(new Inbox(database), done, letter);
        } finally {
          closeDatabase(database, path);
        }
      });
      assert.deepEqual(got, want);
      assert.deepEqual(done, effects);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

test("metadata", () => {
  const good = {
    "treaty-command-id": "sagas/s/steps/1", "treaty-direction": "action", "treaty-attempt": "2", "treaty-epoch": "3",
  };
  const parse = (change: Record<string, string>) => {
    const metadata = new Metadata();
    for (const [key, value] of Object.entries({ ...good, ...change })) metadata.set(key, value);
    return parseCommand(metadata);
  };
  const want = {
    saga: "sagas/s", commandId: "sagas/s/steps/1", direction: "action", attempt: 2, epoch: 3n, scope: "", start: 0n,
    digest: "",
  };
  assert.deepEqual(parse({}), want);
  assert.equal(parseCommand(new Metadata()), undefined);
  for (const change of [
    { "treaty-command-id": "1" },
    { "treaty-command-id": "sagas//steps/1", "treaty-saga": "sagas/" },
    { "treaty-command-id": "sagas/s/steps/1/steps/2", "treaty-saga": "sagas/s/steps/1" },
    { "treaty-saga": "sagas/other" },
    { "treaty-direction": "sideways" },
    { "treaty-attempt": "0" },
    { "treaty-epoch": "-1" },
    { "treaty-scope": "nothing" },
    { "treaty-start": "soon" },
    { "treaty-request-digest": "0123" },
  ] as Record<string, string>[]) {
    assert.throws(() => parse(change), (error) => error instanceof Refusal && error.code === status.INVALID_ARGUMENT);
  }
});
