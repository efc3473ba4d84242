import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import protobuf from "protobufjs";
import { Descriptors } from "./descriptors.js";

const encoded = readFileSync(new URL("../../../gen/acme/notification/contracts.binpb", import.meta.url));
const notification = "acme.notification.v1.NotificationService";

test("what is described", () => {
  const descriptors = new Descriptors(encoded);
  for (const [symbol, file] of [
    [notification, "acme/notification/v1/notification_service.proto"],
    [`${notification}.SendWelcome`, "acme/notification/v1/notification_service.proto"],
    ["treaty.v1.CloseCommandResponse.Executed.reply", "treaty/v1/participant_service.proto"],
    ["treaty.v1.CommandVerdict", "treaty/v1/participant_service.proto"],
    ["treaty.v1.command", "treaty/v1/options.proto"],
    ["SendWelcome", undefined],
  ] as const) {
    assert.equal(descriptors.declaring(symbol)?.name, file, symbol);
  }
  assert.deepEqual([descriptors.describes(notification), descriptors.describes("a.B")], [true, false]);
});

test("the digest is that of the services' files, in any order and each once", () => {
  const descriptors = new Descriptors(encoded);
  const [one, other] = [notification, "acme.privacy.v1.UserDataService"];
  assert.match(descriptors.digest([one]), /^[0-9a-f]{64}$/);
  assert.equal(descriptors.digest([one, other]), descriptors.digest([other, one, other]));
  assert.notEqual(descriptors.digest([one, other]), descriptors.digest([one]));
  assert.equal(descriptors.digest([one, "a.B"]), "");
});

test("the digest covers what the files import, except google.protobuf", () => {
  const Set = protobuf.Root.fromJSON({
    nested: { Set: { fields: { file: { rule: "repeated", type: "bytes", id: 1 } } } },
  }).lookupType("Set");
  const { file } = Set.decode(encoded) as unknown as { file: Uint8Array[] };
  const digest = (changed: string) => {
    const files = file.map((bytes) =>
      Buffer.from(bytes).includes(Buffer.from(`\n${String.fromCharCode(changed.length)}${changed}`))
        ? Buffer.concat([bytes, Buffer.from("\x62\x06proto3")]) // its syntax again
        : bytes);
    return new Descriptors(Set.encode({ file: files }).finish()).digest([notification]);
  };
  assert.equal(digest("none.proto"), new Descriptors(encoded).digest([notification]));
  assert.notEqual(digest("treaty/v1/options.proto"), digest("none.proto"));
  assert.equal(digest("google/protobuf/timestamp.proto"), digest("none.proto"));
});

test("descriptors that can't be used", () => {
  assert.throws(() => new Descriptors(Buffer.from("garbage")), /reading the descriptors: .*include_imports/);
  const Set = protobuf.Root.fromJSON({
    nested: { Set: { fields: { file: { rule: "repeated", type: "bytes", id: 1 } } } },
  }).lookupType("Set");
  const { file } = Set.decode(encoded) as unknown as { file: Uint8Array[] };
  const lacking = Set.encode({ file: file.slice(1) }).finish();
  assert.throws(() => new Descriptors(lacking), /imports .*, which isn't there; include the imports/);
});
