// A participant is an ordinary gRPC server whose commands go through the inbox.

import {
  Metadata, Server, ServerCredentials, status,
  type handleUnaryCall, type sendUnaryData, type ServerOptions, type ServerUnaryCall,
} from "@grpc/grpc-js";
import { trace } from "@opentelemetry/api";
import { isIPv4 } from "node:net";
import { hasCommandKey, parseCommand, type Command, type CommandKey } from "./command.js";
import type { Completion } from "./completer.js";
import { contractOf, replyTypeOf, type Method, type MethodContract, type Service } from "./contract.js";
import { databaseFailed, type Database } from "./database.js";
import { Descriptors } from "./descriptors.js";
import type { ActionReply, Answer, Inbox, Verdict } from "./inbox.js";
import { jsonLog, type Log } from "./log.js";
import { Misuse } from "./misuse.js";
import { Pending, type PendingCommand } from "./pending.js";
import { loadService } from "./protos.js";
import { Questions, type Question } from "./questions.js";
import { serveReflection } from "./reflection.js";
import { marked, response, StatusError } from "./status.js";
import { newVerdicts, tracing } from "./telemetry.js";
import { Trust, type Caller } from "./trust.js";
import { answerUnknownMethods } from "./unknown.js";

/** What a command's handler works with. It ends when the handler returns. */
export interface Tx {
  /** The database, in the transaction that the inbox commits together with the reply. */
  readonly database: Database;
  /** Undefined for a call that isn't made for a saga, for example by a person. */
  readonly command: Command | undefined;
  /**
   * Returns the reply of the action that this compensation undoes, from the inbox. Use it if the request doesn't have
   * the reply, because the orchestrator never received it. Returns undefined if the action was accepted and never
   * completed, or if this isn't a compensation.
   */
  actionReply(): unknown;
}

/**
 * Executes a command, and returns its reply or a Pending. It is synchronous and writes through the transaction only,
 * because it may run again. What it throws rolls its effect back. A StatusError with a code that refuses is the stored
 * answer of an action, and late duplicates get it, too.
 */
export type CommandHandler = (tx: Tx, request: never) => object;

/** Answers a call that changes nothing. */
export type ReadHandler = (request: never, call: ReadCall) => object | Promise<object>;

/** The call of a ReadHandler. */
export type ReadCall = Pick<ServerUnaryCall<unknown, unknown>, "metadata" | "getPath" | "getPeer" | "getDeadline">;

/** The handlers of a service. Methods without one are answered with UNIMPLEMENTED. */
export interface Handlers {
  /** The methods that change something: actions and compensations. The inbox keeps what became of them. */
  readonly commands?: Readonly<Record<string, CommandHandler>>;
  /** The methods that change nothing. */
  readonly reads?: Readonly<Record<string, ReadHandler>>;
}

/** Options of a participant. */
export interface ParticipantOptions {
  /** The participant's name, for logs and as the build that orchestrators show. */
  readonly name: string;
  readonly inbox: Inbox;
  /**
   * Whose commands count: the identities of orchestrators in their verified client certificates, each a URI such as a
   * SPIFFE id or a DNS name. anyCaller is everybody. By default, callers with any verified client certificate count,
   * and callers on this machine.
   */
  readonly orchestrators?: readonly string[];
  /**
   * The contracts: a serialized google.protobuf.FileDescriptorSet with all imports, as
   * "buf build --as-file-descriptor-set" or "protoc --include_imports --descriptor_set_out" writes it. With it, the
   * server has reflection, and orchestrators learn the contracts' digest.
   */
  readonly descriptors?: Uint8Array;
  /** Options of the server, in addition to the participant's own. Interceptors run inside the participant's. */
  readonly server?: ServerOptions;
  /** False if something else makes spans of the calls, such as an instrumentation of gRPC. */
  readonly tracing?: boolean;
  /** By default, JSON lines on standard error. */
  readonly log?: Log;
}

/** Where and how a participant listens. */
export interface ListenOptions {
  /** host:port. Port 0 picks a free one. */
  readonly address: string;
  readonly tls?: TlsOptions;
  /** Allows plaintext beyond loopback: anybody on the network can read, change and send commands. */
  readonly insecure?: boolean;
}

/** TLS of a server, in PEM. */
export interface TlsOptions {
  readonly certificate: Buffer;
  readonly key: Buffer;
  /** The authorities that issue client certificates. With them, every caller needs a certificate. */
  readonly clientAuthorities?: Buffer;
}

/** The largest message that orchestrators receive, in bytes. */
const maxMessageBytes = 4 << 20;

/** What every action may reply with, whatever its request, and what a compensation's request has around the two. */
const undoRoom = 64 << 10;
const undoFrame = 32;

/** A request as it arrived. */
interface Incoming {
  readonly size: number;
  readonly request: () => unknown;
}

type Unary<Request> = ServerUnaryCall<Request, Buffer>;

interface Known {
  readonly method: Method;
  readonly contract: MethodContract;
}

/**
 * A gRPC server that takes part in sagas. It reads the metadata of commands, sends them through the inbox, marks its
 * answers, answers orchestrators' questions (treaty.v1.ParticipantService), believes orchestrators only, and makes
 * spans. Create it after OpenTelemetry's providers were set.
 */
export class Participant {
  /** The server. Add further services to it, such as health. */
  readonly server: Server;

  private readonly inbox: Inbox;
  private readonly trust: Trust;
  private readonly log: Log;
  private readonly note: ReturnType<typeof newVerdicts> = newVerdicts();
  private readonly strangers = new Set<string>(); // that were logged
  private readonly services = new Set<string>();
  private readonly commands = new Map<string, Known>(); // by path

  constructor(options: ParticipantOptions) {
    this.inbox = options.inbox;
    this.trust = new Trust(options.orchestrators ?? []);
    this.log = options.log ?? jsonLog(options.name);
    this.server = new Server({
      // The request of a compensation has the request and the reply of its action in it.
      "grpc.max_receive_message_length": 2 * maxMessageBytes + undoRoom,
      "grpc.max_send_message_length": maxMessageBytes,
      "grpc.max_concurrent_streams": 1024,
      ...options.server,
      interceptors: [...(options.tracing === false ? [] : [tracing]), ...(options.server?.interceptors ?? [])],
    });
    const descriptors = options.descriptors && new Descriptors(options.descriptors);
    const services = () => [...this.services].sort();
    if (descriptors !== undefined) {
      serveReflection(this.server, descriptors, () => [...services(), "treaty.v1.ParticipantService"]);
    }
    const questions = new Questions(options.inbox, {
      build: options.name, services, contractsDigest: () => descriptors?.digest(services()) ?? "",
      keptMethods: () => [...this.commands.keys()].map((path) => path.slice(1)).sort(),
    }, this.log);
    this.server.addService(loadService("participant_service.proto", "ParticipantService"), {
      Describe: this.asked(questions.describe),
      ListCommands: this.asked(questions.listCommands),
      CloseCommand: this.asked(questions.closeCommand),
    });
    answerUnknownMethods(this.server, (call) => {
      const asked = call.getPath().startsWith("/treaty.v1.ParticipantService/");
      if (asked || hasCommandKey(call.metadata)) this.believe(call);
    });
  }

  /**
   * Adds a service. Its definition may come from @grpc/proto-loader or from a generator for @grpc/grpc-js. Throws an
   * error for a handler of a method that the service doesn't have, or that streams.
   */
  addService(service: Service, { commands = {}, reads = {} }: Handlers): void {
    const methods: Record<string, RawMethod> = {};
    const implementation: Record<string, handleUnaryCall<Incoming, Buffer>> = {};
    for (const name of [...Object.keys(commands), ...Object.keys(reads)]) {
      const method = service[name];
      const [, fullName = ""] = Object.values(service)[0]?.path.split("/") ?? [];
      if (method === undefined) {
        throw new Error(`adding a service: ${fullName} has no method ${name}; it has ${Object.keys(service)}`);
      }
      if (method.requestStream || method.responseStream) {
        throw new Error(`adding a service: ${fullName}/${name} streams: add it to the server itself`);
      }
      if (name in implementation) throw new Error(`adding a service: ${fullName}/${name} is a command and a read`);
      this.services.add(fullName);
      methods[name] = raw(method);
      const command = commands[name];
      const read = reads[name];
      if (command !== undefined) implementation[name] = this.command(method, command);
      if (read !== undefined) implementation[name] = this.read(method, read);
    }
    this.server.addService(methods, implementation);
  }

  /**
   * Listens, and returns the port. Rejects with an error that says what to do if the port is in use, or if the address
   * isn't a loopback address and neither TLS nor insecure is set.
   */
  async listen(options: ListenOptions): Promise<number> {
    const credentials = credentialsOf(options);
    return await new Promise((resolve, reject) => {
      this.server.bindAsync(options.address, credentials, (error, port) => {
        if (error === null) return resolve(port);
        const inUse = /EADDRINUSE/.test(error.message);
        reject(new Error(inUse
          ? `listening on ${options.address}: the port is in use: stop the other process or choose another port`
          : `listening on ${options.address}: ${error.message}`));
      });
    });
  }

  /** Stops the server: new calls are refused, and calls in flight have some time to finish. Then they are aborted. */
  stop(timeoutMs = 10_000): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.log("WARN", "aborting calls that did not finish in time", {});
        this.server.forceShutdown();
        resolve();
      }, timeoutMs);
      this.server.tryShutdown(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** Returns the commands that wait for their completion, oldest first. After a start, continue with them. */
  pending(): PendingCommand[] {
    return this.inbox.pending();
  }

  /**
   * Ends an accepted command with the reply of a handler, whose effect is committed together with it, at most once. If
   * the command was completed before, it returns the stored reply and doesn't run the handler. Inform the orchestrator
   * with Completer.send afterwards. Throws a CompletionError if the command can't be completed any more, and what the
   * handler throws: then the command stays accepted.
   */
  complete(key: CommandKey, handler: (tx: Tx) => object): Completion {
    const { method, reply } = this.inbox.complete(
      key, (path) => serialize(this.known(path).method, handler(this.tx(undefined))),
      (path) => this.known(path).contract,
    );
    this.note("executed", key.direction);
    const replyType = replyTypeOf(this.known(method).method);
    return { commandId: key.commandId, direction: key.direction, reply, ...(replyType && { replyType }) };
  }

  /**
   * Ends an accepted command with a refusal. No compensation follows for a refused action, so the handler must undo
   * what the acceptance did. Otherwise it is like complete.
   */
  refuse(key: CommandKey, refusal: StatusError, handler: (tx: Tx) => void = () => {}): Completion {
    const stored = this.inbox.refuse(
      key, refusal, () => handler(this.tx(undefined)), (path) => this.known(path).contract,
    );
    this.note("refused", key.direction);
    return {
      commandId: key.commandId, direction: key.direction, refusal: stored.refusal,
      settled: key.direction === "action",
    };
  }

  private known(path: string): Known {
    const known = this.commands.get(path);
    if (known === undefined) throw new Error(`completing a command of ${path}: no service with this method was added`);
    return known;
  }

  /** Returns a gRPC handler that handles its command through the inbox. */
  private command(method: Method, handler: CommandHandler): handleUnaryCall<Incoming, Buffer> {
    const contract = contractOf(method);
    this.commands.set(method.path, { method, contract });
    return (call, callback) => {
      let command: Command | undefined;
      try {
        command = this.commandOf(call);
        const request = call.request.request();
        const { answer, verdict } = this.inbox.handle(command, method.path, (action) => {
          const made: unknown = handler(this.tx(command, action), request as never);
          return made instanceof Pending ? made : serialize(method, made);
        }, leaveRoom(contract, command, call.request.size));
        this.report(verdict, call, command);
        this.answer(answer, contract, callback);
      } catch (error) {
        this.fail(error, call, command, callback);
      }
    };
  }

  /** Returns a gRPC handler for a call that changes nothing. */
  private read(method: Method, handler: ReadHandler): handleUnaryCall<Incoming, Buffer> {
    const answer = async (call: Unary<Incoming>): Promise<Buffer> => {
      const command = this.commandOf(call);
      const reply = serialize(method, await handler(call.request.request() as never, call));
      if (command !== undefined && reply.length > maxMessageBytes) {
        throw new StatusError(
          status.OUT_OF_RANGE, `the reply has ${reply.length} bytes, and at most ${maxMessageBytes} are allowed`,
        );
      }
      return buffer(reply);
    };
    return (call, callback) => {
      answer(call).then(
        (reply) => callback(null, reply), (error: unknown) => this.fail(error, call, undefined, callback),
      );
    };
  }

  /** Returns a gRPC handler for a question of an orchestrator. */
  private asked<Request>(question: (call: Question<Request>) => object): handleUnaryCall<Request, object> {
    return (call, callback) => {
      try {
        this.believe(call);
        callback(null, question(call), marked("done"));
      } catch (error) {
        this.fail(error, call, undefined, callback);
      }
    };
  }

  /**
   * Returns the command of a call. Throws an error if it is malformed, or if the caller isn't believed: such a call
   * isn't executed as an ordinary call either.
   */
  private commandOf(call: Unary<Incoming>): Command | undefined {
    if (hasCommandKey(call.metadata)) this.believe(call);
    return parseCommand(call.metadata);
  }

  /** Throws UNAUTHENTICATED if the caller isn't believed, and logs each such caller once. */
  private believe(call: Caller & { getPath(): string }): void {
    try {
      this.trust.check(call);
    } catch (error) {
      const caller = call.getPeer().replace(/:\d+$/, "");
      if (!this.strangers.has(caller) && this.strangers.size < 100) {
        this.strangers.add(caller);
        this.log("WARN", "a caller isn't believed: if it is an orchestrator, add its identity to the orchestrators", {
          method: call.getPath(), caller,
        });
      }
      throw error;
    }
  }

  private tx(command: Command | undefined, action?: ActionReply): Tx {
    return {
      database: this.inbox.database, command,
      actionReply: () => {
        const method = action && this.commands.get(action.method)?.method;
        return action && method?.responseDeserialize(buffer(action.reply));
      },
    };
  }

  private answer(answer: Answer, contract: MethodContract, callback: sendUnaryData<Buffer>): void {
    if ("reply" in answer) {
      callback(null, buffer(answer.reply), contract.completesLater ? marked("done") : undefined);
    } else if ("pending" in answer) {
      const trailer = new Metadata();
      trailer.set("treaty-pending", String(answer.pending.seconds));
      callback(null, Buffer.alloc(0), trailer);
    } else {
      callback(response(answer.refusal, answer.settled ? "settled" : "attempt"));
    }
  }

  /** Answers a call that failed. Only the text of a StatusError or a Misuse reaches the caller. */
  private fail<Reply>(
    error: unknown, call: Pick<Unary<unknown>, "getPath" | "metadata">, command: Command | undefined,
    callback: sendUnaryData<Reply>,
  ): void {
    if (error instanceof StatusError) {
      callback(response(error.encoded, "attempt"));
      return;
    }
    const text = error instanceof Error ? error.message : String(error);
    this.log("ERROR", "handler failed", { ...ids(call, command), error: text });
    const metadata = marked("attempt");
    if (error instanceof Misuse) {
      callback({ code: status.INTERNAL, details: text, metadata });
    } else if (databaseFailed(error)) {
      // Also at the commit: it is unknown whether the command was executed, and the next attempt finds out.
      callback({ code: status.UNAVAILABLE, details: "the service's database failed", metadata });
    } else {
      callback({ code: status.INTERNAL, details: "internal error; see the service's log", metadata });
    }
  }

  private report(verdict: Verdict | undefined, call: Unary<unknown>, command: Command | undefined): void {
    if (verdict === undefined || command === undefined) return;
    this.note(verdict, command.direction);
    if (verdict !== "executed" && verdict !== "accepted") {
      this.log("INFO", "not executed", { ...ids(call, command), verdict });
    }
  }
}

/** A method whose messages are bytes here: requests are read later, and stored replies are sent as they are. */
interface RawMethod {
  path: string;
  requestStream: false;
  responseStream: false;
  requestSerialize: (message: Incoming) => Buffer;
  requestDeserialize: (bytes: Buffer) => Incoming;
  responseSerialize: (bytes: Buffer) => Buffer;
  responseDeserialize: (bytes: Buffer) => Buffer;
}

function raw(method: Method): RawMethod {
  const same = (bytes: Buffer) => bytes;
  return {
    path: method.path, requestStream: false, responseStream: false,
    requestSerialize: () => Buffer.alloc(0), // for clients only
    // What can't be read is answered with a mark, so it must not fail before the handler.
    requestDeserialize: (bytes) => ({
      size: bytes.length,
      request: () => {
        try {
          return method.requestDeserialize(bytes);
        } catch {
          throw new StatusError(status.INTERNAL, `the request isn't one of ${method.path.slice(1)}`);
        }
      },
    }),
    responseSerialize: same, responseDeserialize: same,
  };
}

/** Serializes what a handler has returned. */
function serialize(method: Method, made: unknown): Uint8Array {
  if (made instanceof Promise) {
    made.catch(() => {}); // it was a mistake to start it
    throw new Misuse(method.path, "is asynchronous: its transaction ends when it returns, so it can't await anything");
  }
  if (made instanceof Pending) throw new Misuse(method.path, "accepts a command that is being completed");
  if (typeof made !== "object" || made === null) {
    throw new Misuse(method.path, "has returned neither a reply nor an error: to reply with nothing, return {}");
  }
  return method.responseSerialize(made as never);
}

/**
 * Limits the reply of an action with a large request: an orchestrator can only compensate the action if both fit into
 * one request.
 */
function leaveRoom(contract: MethodContract, command: Command | undefined, size: number): MethodContract {
  if (command?.direction !== "action" || !contract.compensatable || size <= undoRoom) return contract;
  const room = Math.max(maxMessageBytes - size - undoFrame, 1);
  return { ...contract, maxReplyBytes: Math.min(contract.maxReplyBytes, room) };
}

function buffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Returns the ids by which a log record can be found from a trace or a saga. They contain nothing of the request. */
function ids(
  call: { getPath(): string; metadata: Metadata }, command: Command | undefined,
): Readonly<Record<string, unknown>> {
  const traceparent = String(call.metadata.get("traceparent")[0] ?? "").split("-")[1];
  return {
    method: call.getPath(), trace_id: trace.getActiveSpan()?.spanContext().traceId ?? traceparent,
    saga: command?.saga, command_id: command?.commandId, attempt: command?.attempt,
  };
}

function credentialsOf({ address, tls, insecure }: ListenOptions): ServerCredentials {
  const host = /^(?:\[(.+)\]|([^:]*)):(\d{1,5})$/.exec(address);
  if (host === null) throw new Error(`listening on ${address}: want host:port, e.g. 127.0.0.1:7101`);
  if (tls !== undefined) {
    const { certificate, key, clientAuthorities } = tls;
    const pair = { cert_chain: certificate, private_key: key };
    return ServerCredentials.createSsl(clientAuthorities ?? null, [pair], clientAuthorities !== undefined);
  }
  const name = host[1] ?? host[2] ?? "";
  const loopback = name === "localhost" || name === "::1" || (isIPv4(name) && name.startsWith("127."));
  if (!loopback && !insecure) {
    throw new Error(
      `listening on ${address}: plaintext is allowed on loopback addresses only: use TLS, or allow it explicitly to ` +
        "let anybody on the network read, change and send commands",
    );
  }
  return ServerCredentials.createInsecure();
}
