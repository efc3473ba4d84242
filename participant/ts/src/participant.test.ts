import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  Client, credentials, Metadata, Server, ServerCredentials, status, type ServiceError, type StatusObject,
} from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import {
  anyCaller, Completer, CompletionError, Database, Inbox, Participant, Pending, StatusError, StepEndedError,
  type CommandHandler, type Completion, type ParticipantOptions, type Service,
} from "./index.js";
import { contractOf, replyTypeOf } from "./contract.js";
import { loadService } from "./protos.js";
import { decodeStatus, maxErrorBytes } from "./status.js";

const identityService = "acme.identity.v1.IdentityService";
const definition = loadSync(["acme/identity/v1/identity_service.proto", "acme/customer/v1/customer_service.proto"], {
  includeDirs: [fileURLToPath(new URL("../../../proto", import.meta.url))],
  keepCase: true, defaults: true, longs: String, enums: String, oneofs: true,
});
const identity = definition[identityService] as unknown as Service;

/** What came of a call, in short. */
interface Said {
  /** The code, the reason of an ErrorInfo of Treaty, and the trailers. */
  readonly short: string;
  readonly message: string;
  readonly reply: object | undefined;
}

/** A participant that runs, and a client of it. */
interface Running {
  readonly participant: Participant;
  readonly database: Database;
  readonly logged: string[];
  call(method: string, request: object | Buffer, keys?: Readonly<Record<string, string>>): Promise<Said>;
}

const services: Readonly<Record<string, Service>> = {
  [identityService]: identity,
  "treaty.v1.ParticipantService": loadService("participant_service.proto", "ParticipantService") as unknown as Service,
};

/** Makes a call, and describes the answer. */
function callWith(
  client: Client, path: string, request: object | Buffer, keys: Readonly<Record<string, string>>,
): Promise<Said> {
  const [, service = "", name = ""] = path.split("/");
  const method = services[service]?.[name];
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(keys)) metadata.set(key, value);
  const serialize = (message: object | Buffer): Buffer => Buffer.isBuffer(message)
    ? message
    : (method as unknown as { requestSerialize: (message: object) => Buffer }).requestSerialize(message);
  return new Promise((resolve) => {
    let error: ServiceError | null = null;
    let reply: object | undefined;
    const call = client.makeUnaryRequest(
      path, serialize, (bytes: Buffer) => method?.responseDeserialize(bytes) as object, request, metadata,
      (failed: ServiceError | null, value?: object) => {
        error = failed;
        reply = value;
      },
    );
    call.on("status", ({ code, details, metadata }: StatusObject) => {
      const encoded = metadata.get("grpc-status-details-bin")[0];
      const detail = Buffer.isBuffer(encoded) ? decodeStatus(encoded).details[0] : undefined;
      const text = Buffer.from(detail?.value ?? []).toString();
      const reason = /[A-Z]{4,}_[A-Z_]+|PURGED/.exec(text)?.[0];
      const marks = ["treaty-answer", "treaty-pending"].flatMap((key) => metadata.get(key)).map(String);
      setImmediate(() => resolve({
        short: [status[code], reason, ...marks].filter((word) => word !== undefined).join(" "),
        message: error === null ? "" : details, reply,
      }));
    });
  });
}

/** Calls f with a participant that has handlers of the identity service's commands, and stops it afterwards. */
async function withParticipant(
  commands: Readonly<Record<string, CommandHandler>>, f: (running: Running) => Promise<void>,
  options: Partial<ParticipantOptions> = {},
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "participant"));
  const database = Database.open(join(directory, "test.db"), ["CREATE TABLE effects (name TEXT NOT NULL)"]);
  const logged: string[] = [];
  const participant = new Participant({
    name: "test", inbox: new Inbox(database),
    log: (level, message, fields) => logged.push(`${level} ${message} ${JSON.stringify(fields)}`), ...options,
  });
  participant.addService(identity, {
    commands, reads: {
      GetApplicant: async ({ name }: { name: string }) => {
        if (name === "") throw new StatusError(status.NOT_FOUND, "there is no such applicant");
        return { name };
      },
    },
  });
  const port = await participant.listen({ address: "127.0.0.1:0" });
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1,
  });
  try {
    await f({
      participant, database, logged,
      call: (method, request, keys = {}) => callWith(
        client, method.startsWith("/") ? method : `/${identityService}/${method}`, request, keys,
      ),
    });
  } finally {
    client.close();
    await participant.stop(1000);
    database.close();
    rmSync(directory, { recursive: true });
  }
}

function sent(
  saga: string, direction = "action", more: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  return {
    "treaty-command-id": `sagas/${saga}/steps/1`, "treaty-direction": direction, "treaty-epoch": "5",
    "treaty-scope": "/0", ...more,
  };
}

const scope = { "treaty-scope": "/0", "treaty-epoch": "5" };

function effects(database: Database): string[] {
  return database.all("SELECT name FROM effects ORDER BY rowid").map((row) => String(row["name"]));
}

function effect(database: Database, name: string): void {
  database.run("INSERT INTO effects VALUES (?)", [name]);
}

/** Returns a completion in which bytes can be compared. */
function comparable(completion: Completion): object {
  return "reply" in completion ? { ...completion, reply: Buffer.from(completion.reply).toString("hex") } : completion;
}

const long = "x".repeat(maxErrorBytes);

test("answers and their marks", () => withParticipant({
  RegisterApplicant: ({ database }, { customer }: { customer: string }) => {
    effect(database, `register ${customer}`);
    switch (customer) {
      case "refused":
        throw new StatusError(status.FAILED_PRECONDITION, "no", {
          type: "acme.identity.v1.ApplicantRejected", value: new Uint8Array(),
        });
      case "busy":
        throw new StatusError(status.ABORTED, "busy");
      case "broken":
        throw new Error("the secret");
      case "long":
        throw new StatusError(status.NOT_FOUND, long, { type: "a.B", value: Buffer.from(long) });
      case "constraint":
        database.run("INSERT INTO effects VALUES (NULL)");
        return {};
      case "async":
        return Promise.reject(new Error("late"));
      case "nothing":
        return undefined as unknown as object;
      default:
        return { applicant: `applicants/${customer}` };
    }
  },
  WithdrawApplicant: (tx) => {
    effect(tx.database, `withdraw ${JSON.stringify(tx.actionReply())}`);
    return {};
  },
}, async ({ call, database, logged }) => {
  const register = (customer: string, keys?: Readonly<Record<string, string>>) =>
    call("RegisterApplicant", { customer }, keys);
  const table: [string, () => Promise<Said>, string][] = [
    ["an action", () => register("a", sent("a")), "OK"],
    ["a refusal", () => register("refused", sent("b")), "FAILED_PRECONDITION settled"],
    ["its duplicate", () => register("a", sent("b")), "FAILED_PRECONDITION settled"],
    ["a conflict", () => register("busy", sent("c")), "ABORTED attempt"],
    ["an exception", () => register("broken", sent("c")), "INTERNAL attempt"],
    ["a database's error", () => register("constraint", sent("c")), "UNAVAILABLE attempt"],
    ["an asynchronous handler", () => register("async", sent("c")), "INTERNAL attempt"],
    ["no reply", () => register("nothing", sent("c")), "INTERNAL attempt"],
    ["an error that is too large", () => register("long", sent("d")), "NOT_FOUND settled"],
    ["a request that can't be read", () => call("RegisterApplicant", Buffer.from([0xff]), sent("c")),
      "INTERNAL attempt"],
    ["a lower epoch", () => register("c", sent("c", "action", { "treaty-epoch": "4" })), "ABORTED STALE_EPOCH attempt"],
    ["malformed", () => register("c", sent("c", "sideways")), "INVALID_ARGUMENT METADATA_INVALID attempt"],
    ["a person's call", () => register("person"), "OK"],
    ["a person's call that is refused", () => register("refused"), "FAILED_PRECONDITION attempt"],
    ["a compensation", () => call("WithdrawApplicant", {}, sent("a", "compensation")), "OK"],
    ["its action", () => register("a", sent("a")), "FAILED_PRECONDITION COMPENSATED_BEFORE settled"],
    ["a read", () => call("GetApplicant", { name: "applicants/a" }), "OK"],
    ["a read for a saga", () => call("GetApplicant", { name: "" }, sent("r")), "NOT_FOUND attempt"],
    ["a malformed read", () => call("GetApplicant", {}, sent("r", "")), "INVALID_ARGUMENT METADATA_INVALID attempt"],
    ["a method without a handler", () => call("InspectPassport", {}, sent("u")), "UNIMPLEMENTED attempt"],
    ["a service that isn't served", () => call("/a.B/C", Buffer.alloc(0)), "UNIMPLEMENTED attempt"],
  ];
  for (const [what, make, want] of table) {
    const said = await make();
    assert.equal(said.short, want, what);
    assert.ok(!said.message.includes("secret"), `${what}: ${said.message}`);
  }
  assert.match((await register("async", sent("c"))).message, /RegisterApplicant is asynchronous/);
  assert.match((await register("nothing", sent("c"))).message, /return \{\}/);
  assert.deepEqual(effects(database), [
    "register a", "register person", 'withdraw {"applicant":"applicants/a","register_reference":""}',
  ]);
  assert.ok(logged.some((line) => line.includes("the secret") && line.includes("sagas/c/steps/1")), logged.join("\n"));
}));

test("a reply must leave room for the action's request", () => withParticipant({
  RegisterApplicant: (_, { customer }: { customer: string }) => ({ applicant: customer }),
  DiscardInspection: () => ({}),
}, async ({ call }) => {
  const large = { customer: "x".repeat(2 << 20) };
  assert.equal((await call("RegisterApplicant", large, sent("a"))).short, "OUT_OF_RANGE settled");
  assert.equal((await call("RegisterApplicant", { customer: "x".repeat(1 << 20) }, sent("b"))).short, "OK");
  assert.equal((await call("RegisterApplicant", large)).short, "OK");
}));

test("commands that take long", () => withParticipant({
  InspectPassport: ({ database }, { applicant }: { applicant: string }) => {
    effect(database, `accept ${applicant}`);
    return new Pending(0.5);
  },
  DiscardInspection: ({ database, ...tx }) => {
    effect(database, `discard ${JSON.stringify(tx.actionReply() ?? null)}`);
    return {};
  },
}, async ({ call, database, participant }) => {
  const inspect = (saga: string) => call("InspectPassport", { applicant: "applicants/a" }, sent(saga));
  const key = (saga: string) => ({ commandId: `sagas/${saga}/steps/1`, direction: "action" as const });
  assert.equal((await inspect("a")).short, "OK 1");
  assert.equal((await inspect("a")).short, "OK 1");
  assert.equal((await inspect("b")).short, "OK 1");
  assert.equal((await inspect("c")).short, "OK 1");
  assert.equal((await call("InspectPassport", {})).short, "FAILED_PRECONDITION attempt");
  assert.deepEqual(participant.pending().map((p) => p.commandId), ["a", "b", "c"].map((saga) => key(saga).commandId));

  const told: unknown[] = [];
  const orchestrator = new Server();
  let ended = false;
  const answer = (call: { request: unknown }, callback: (error: object | null, reply?: object) => void) => {
    told.push(call.request);
    callback(ended ? { code: status.FAILED_PRECONDITION, details: "it has ended" } : null, {});
  };
  orchestrator.addService(loadService("saga_service.proto", "SagaService"), {
    CompleteStep: answer, HeartbeatStep: answer,
  });
  const port = await new Promise<number>((resolve, reject) => {
    orchestrator.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  const completer = new Completer(`127.0.0.1:${port}`, credentials.createInsecure());
  try {
    await completer.heartbeat(key("a"));
    const completion = participant.complete(key("a"), ({ database }) => {
      effect(database, "complete");
      return { inspection: "inspections/1" };
    });
    const before = participant.complete(key("a"), () => assert.fail("it was completed before"));
    assert.deepEqual(comparable(before), comparable(completion));
    await completer.send(completion);
    const refusal = new StatusError(status.FAILED_PRECONDITION, "it isn't genuine");
    await completer.send(participant.refuse(key("b"), refusal, ({ database }) => effect(database, "undo")));
    assert.throws(() => participant.complete(key("b"), () => ({})), (error) =>
      error instanceof CompletionError && error.problem === "completed");
    assert.throws(() => participant.refuse(key("c"), new StatusError(status.ABORTED, "busy")), /doesn't refuse/);
    assert.throws(() => participant.complete(key("c"), () => new Pending(1)), /accepts a command/);
    assert.throws(() => participant.complete(key("c"), () => Promise.resolve({})), /is asynchronous/);
    ended = true;
    await assert.rejects(completer.send(completion), StepEndedError);
    await assert.rejects(completer.heartbeat(key("c")), StepEndedError);
  } finally {
    completer.close();
    orchestrator.forceShutdown();
  }
  const [heartbeat, done, refused] = told as { name: string; direction: string; reply: { type_url: string };
    refusal: { code: number; message: string }; settled: boolean }[];
  assert.equal(`${heartbeat?.name} ${heartbeat?.direction}`, "sagas/a/steps/1 STEP_DIRECTION_ACTION");
  assert.equal(done?.reply.type_url, "type.googleapis.com/acme.identity.v1.PassportInspected");
  assert.deepEqual([refused?.refusal.code, refused?.refusal.message, refused?.settled], [9, "it isn't genuine", true]);

  assert.equal((await inspect("a")).short, "OK done");
  assert.equal((await inspect("b")).short, "FAILED_PRECONDITION settled");
  for (const saga of ["a", "c"]) {
    assert.equal((await call("DiscardInspection", {}, sent(saga, "compensation"))).short, "OK");
  }
  assert.throws(() => participant.complete(key("c"), () => ({})), (error) =>
    error instanceof CompletionError && error.problem === "compensated");
  assert.equal((await inspect("c")).short, "FAILED_PRECONDITION COMPENSATED_BEFORE settled");
  assert.deepEqual(participant.pending(), []);
  assert.deepEqual(effects(database), [
    ...Array<string>(3).fill("accept applicants/a"), "complete", "undo",
    'discard {"inspection":"inspections/1","applicant":"","inspect_time":null}', "discard null",
  ]);
}));

test("questions", () => withParticipant({
  RegisterApplicant: () => ({}),
}, async ({ call, logged }) => {
  const ask = (method: string, request: object, keys: Readonly<Record<string, string>> = scope) =>
    call(`/treaty.v1.ParticipantService/${method}`, request, keys);
  const first = await ask("Describe", { store_id: "a", position: "7", horizon: { seconds: "1", nanos: 0 } });
  assert.equal(first.short, "OK done");
  const { features, heard, ...described } = first.reply as { features: string[]; heard: object | null };
  assert.equal(features.length, 3);
  assert.equal(heard, null);
  assert.deepEqual(described, {
    protocol_version: 1, build: "test", contracts_digest: "", services: [identityService],
    kept_methods: [`${identityService}/RegisterApplicant`], received_keys: ["treaty-epoch", "treaty-scope"],
  });
  const again = await ask("Describe", { store_id: "b", position: "3" }, { ...scope, "treaty-epoch": "6" });
  assert.deepEqual((again.reply as { heard: object }).heard, {
    epoch: "5", position: "7", store_id: "a", horizon: { seconds: "1", nanos: 0 },
  });
  assert.ok(logged.some((line) => line.startsWith("ERROR two orchestrators")));
  const later = { ...scope, "treaty-epoch": "6" };
  const method = `${identityService}/RegisterApplicant`;
  const closing = (saga: string, named = method) =>
    ask("CloseCommand", { command_id: `sagas/${saga}/steps/1`, method: named }, later);
  for (const [what, make, want] of [
    ["an epoch that was replaced", () => ask("Describe", {}), "ABORTED STALE_EPOCH attempt"],
    ["no scope", () => ask("Describe", {}, {}), "INVALID_ARGUMENT attempt"],
    ["sagas and since", () => ask("ListCommands", { sagas: ["sagas/a"], since: {} }, later),
      "INVALID_ARGUMENT attempt"],
    ["neither", () => ask("ListCommands", {}, later), "INVALID_ARGUMENT attempt"],
    ["no names of sagas", () => ask("ListCommands", { sagas: ["a"] }, later), "INVALID_ARGUMENT attempt"],
    ["a bad token", () => ask("ListCommands", { since: {}, page_token: "x" }, later), "INVALID_ARGUMENT attempt"],
    ["no command id", () => ask("CloseCommand", { command_id: "a", method }, later), "INVALID_ARGUMENT attempt"],
    ["a bad digest", () => ask("CloseCommand", { command_id: "sagas/a/steps/1", method, request_digest: "0" }, later),
      "INVALID_ARGUMENT attempt"],
    ["another question", () => call("/treaty.v1.ParticipantService/Forget", Buffer.alloc(0), later),
      "UNIMPLEMENTED attempt"],
  ] as [string, () => Promise<Said>, string][]) {
    assert.equal((await make()).short, want, what);
  }
  assert.equal((await call("RegisterApplicant", {}, sent("a", "action", later))).short, "OK");
  const outcomes = [];
  for (const said of [await closing("a"), await closing("b"), await closing("b"), await closing("c", "a.B/C")]) {
    outcomes.push((said.reply as { outcome: string }).outcome);
  }
  assert.deepEqual(outcomes, ["executed", "closed", "closed", "not_kept"]);
  assert.equal((await call("RegisterApplicant", {}, sent("b", "action", later))).short,
    "FAILED_PRECONDITION CLOSED_BEFORE settled");
  let token = "";
  const listed: string[] = [];
  do {
    const page = await ask("ListCommands", { since: { seconds: "0" }, page_size: 1, page_token: token }, later);
    const { commands, next_page_token } = page.reply as {
      commands: { command_id: string; verdict: string; method: string }[]; next_page_token: string;
    };
    listed.push(...commands.map((c) => `${c.command_id} ${c.verdict} ${c.method}`));
    token = next_page_token;
  } while (token !== "");
  assert.deepEqual(listed, [
    `sagas/a/steps/1 COMMAND_VERDICT_EXECUTED ${method}`, `sagas/b/steps/1 COMMAND_VERDICT_CLOSED ${method}`,
  ]);
}));

for (const [orchestrators, believed] of [[[], true], [[anyCaller], true], [["spiffe://a/b"], false]] as const) {
  test(`callers without a certificate, if ${JSON.stringify(orchestrators)} are believed`, () => withParticipant({
    RegisterApplicant: ({ database }) => {
      effect(database, "register");
      return {};
    },
  }, async ({ call, database, logged }) => {
    const no = "UNAUTHENTICATED CALLER_NOT_BELIEVED attempt";
    const want = believed ? ["OK", "OK", "UNIMPLEMENTED attempt", "OK done", "OK"] : [no, no, no, no, "OK"];
    const got = [
      await call("RegisterApplicant", {}, sent("a")), await call("GetApplicant", { name: "applicants/a" }, sent("a")),
      await call("/a.B/C", Buffer.alloc(0), sent("a")),
      await call("/treaty.v1.ParticipantService/Describe", {}, scope), await call("RegisterApplicant", {}),
    ].map(({ short }) => short);
    assert.deepEqual(got, want);
    assert.equal(effects(database).length, believed ? 2 : 1);
    assert.equal(logged.filter((line) => line.includes("isn't believed")).length, believed ? 0 : 1);
  }, { orchestrators }));
}

test("services that can't be added", () => withParticipant({}, async ({ participant }) => {
  const customer = definition["acme.customer.v1.CustomerService"] as unknown as Service;
  const handler = () => ({});
  assert.throws(() => participant.addService(customer, { commands: { MoveAway: handler } }), /has no method MoveAway/);
  assert.throws(() => participant.addService(customer, {
    commands: { ChangeAddress: handler }, reads: { ChangeAddress: handler },
  }), /is a command and a read/);
}));

test("addresses that a participant doesn't listen on", () => withParticipant({}, async ({ participant }) => {
  await assert.rejects(participant.listen({ address: "0.0.0.0:0" }), /loopback addresses only/);
  await assert.rejects(participant.listen({ address: "nowhere" }), /want host:port/);
}));

test("an OK says that the command is done if the contract isn't known", () => {
  const { path, requestStream, responseStream, requestDeserialize, responseSerialize, responseDeserialize } =
    identity["RegisterApplicant"]!;
  const bare = { path, requestStream, responseStream, requestDeserialize, responseSerialize, responseDeserialize };
  assert.equal(contractOf(bare).completesLater, true);
  assert.equal(replyTypeOf(bare), undefined);
});

test("what contracts say", () => {
  const of = (name: string) => contractOf(identity[name]!);
  assert.deepEqual([of("RegisterApplicant").completesLater, of("RegisterApplicant").compensatable], [false, true]);
  assert.deepEqual([of("InspectPassport").completesLater, of("DiscardInspection").compensatable], [true, false]);
  assert.equal(replyTypeOf(identity["InspectPassport"]!), "acme.identity.v1.PassportInspected");
  const method = { ...identity["InspectPassport"]!, options: {
    "(treaty.v1.command)": { retriable: {}, outcomes: [{ code: "ABORTED", outcome: "OUTCOME_REFUSED" },
      { code: "NOT_FOUND", outcome: "OUTCOME_CONFLICT" }] },
  } };
  const { retriable, refuses } = contractOf(method);
  assert.deepEqual(
    [retriable, refuses(status.ABORTED), refuses(status.NOT_FOUND), refuses(status.OUT_OF_RANGE)],
    [true, true, false, true],
  );
});
