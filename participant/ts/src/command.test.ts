import assert from "node:assert/strict";
import { test } from "node:test";
import { Metadata, status } from "@grpc/grpc-js";
import { parseCommand } from "./command.js";
import { StatusError } from "./status.js";

const good = {
  "treaty-command-id": "sagas/s/steps/1", "treaty-direction": "action", "treaty-attempt": "2", "treaty-epoch": "3",
};

function metadataOf(values: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(values)) if (value !== "") metadata.set(key, value);
  return metadata;
}

test("metadata of a command", () => {
  const parse = (change: Readonly<Record<string, string>>) => parseCommand(metadataOf({ ...good, ...change }));
  const want = {
    saga: "sagas/s", commandId: "sagas/s/steps/1", direction: "action", attempt: 2, epoch: 3n, scope: "", start: 0n,
    digest: "",
  };
  assert.deepEqual(parse({}), want);
  assert.deepEqual(parse({ "treaty-saga": "sagas/s", "treaty-attempt": "", "treaty-epoch": "" }), {
    ...want, attempt: 1, epoch: 0n,
  });
  const digest = "0123456789abcdef".repeat(4);
  assert.deepEqual(
    parse({ "treaty-scope": "a/0", "treaty-start": "1700000000000000", "treaty-request-digest": digest }),
    { ...want, scope: "a/0", start: 1700000000000000n, digest },
  );
  assert.equal(parseCommand(new Metadata()), undefined);
});

const malformed: Readonly<Record<string, string>>[] = [
  { "treaty-command-id": "" },
  { "treaty-command-id": "1" },
  { "treaty-command-id": "sagas//steps/1", "treaty-saga": "sagas/" },
  { "treaty-command-id": "sagas/s/steps/1/steps/2", "treaty-saga": "sagas/s/steps/1" },
  { "treaty-command-id": `sagas/s/steps/${"1".repeat(512)}` },
  { "treaty-saga": "sagas/other" },
  { "treaty-direction": "" },
  { "treaty-direction": "sideways" },
  { "treaty-attempt": "0" },
  { "treaty-attempt": "2147483648" },
  { "treaty-epoch": "-1" },
  { "treaty-epoch": "9223372036854775808" },
  { "treaty-scope": "nothing" },
  { "treaty-scope": "a/b/c" },
  { "treaty-scope": `${"a".repeat(128)}/0` },
  { "treaty-scope": "a/0", "treaty-epoch": "" },
  { "treaty-start": "soon" },
  { "treaty-request-digest": "0123" },
  { "treaty-request-digest": "ABCDEF0123456789".repeat(4) },
];

for (const change of malformed) {
  test(`malformed metadata ${JSON.stringify(change).slice(0, 80)}`, () => {
    assert.throws(() => parseCommand(metadataOf({ ...good, ...change })), (error) =>
      error instanceof StatusError && error.code === status.INVALID_ARGUMENT);
  });
}

test("a key that comes twice", () => {
  for (const key of Object.keys(good)) {
    const metadata = metadataOf(good);
    metadata.add(key, metadata.get(key).map(String).join(""));
    assert.throws(() => parseCommand(metadata), /one value/);
  }
});
