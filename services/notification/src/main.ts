// Acme's notification service: a participant that uses its language's ordinary gRPC library and nothing else.

import { join } from "node:path";
import {
  Server, status,
  type handleUnaryCall, type MethodDefinition, type sendUnaryData, type ServerInterceptor, type ServerUnaryCall,
  type ServiceDefinition,
} from "@grpc/grpc-js";
import { loadSync, type PackageDefinition } from "@grpc/proto-loader";
import { ReflectionService } from "@grpc/reflection";
import { HealthImplementation } from "grpc-health-check";
import { hasCommandKey, parseCommand, type Command } from "./command.js";
import { closeDatabase, databaseFailed, openDatabase, type Database } from "./database.js";
import { Inbox, type Verdict } from "./inbox.js";
import { help, parseOptions, UsageError, type Options } from "./options.js";
import { Participant } from "./participant.js";
import { deleteUserData } from "./privacy.js";
import { listMessages, sendReview, sendWelcome, type ListMessagesRequest } from "./service.js";
import { marked, Refusal, response } from "./status.js";
import { noteVerdict, startTelemetry } from "./telemetry.js";
import type { Trust } from "./trust.js";
import { answerUnknownMethods } from "./unknown.js";

const serviceName = "acme.notification.v1.NotificationService";
const userDataServiceName = "acme.privacy.v1.UserDataService";
const participantServiceName = "treaty.v1.ParticipantService";

function log(level: string, message: string, fields: Record<string, unknown> = {}): void {
  const record = { time: new Date().toISOString(), level, msg: message, service: "notification", ...fields };
  process.stderr.write(`${JSON.stringify(record)}\n`);
}

/** Returns the ids by which a log record can be found from a trace or a saga. They contain nothing of the request. */
function ids(call: ServerUnaryCall<unknown, unknown>, command?: Command): Record<string, unknown> {
  const traceparent = String(call.metadata.get("traceparent")[0] ?? "");
  return {
    method: call.getPath(), trace_id: traceparent.split("-")[1],
    saga: command?.saga, command_id: command?.commandId, attempt: command?.attempt,
  };
}

/** Answers a call whose handler threw an error. Only the text of a Refusal reaches the caller. */
function fail(error: unknown, call: ServerUnaryCall<unknown, unknown>, callback: sendUnaryData<never>): void {
  if (error instanceof Refusal) {
    callback(response(error.encoded, "attempt"));
    return;
  }
  log("ERROR", "handler failed", { ...ids(call), error: error instanceof Error ? error.message : String(error) });
  // If the database fails, also at the commit, it is unknown whether the command was executed. The next attempt finds
  // out.
  const metadata = marked("attempt");
  if (databaseFailed(error)) callback({ code: status.UNAVAILABLE, details: "the service's database failed", metadata });
  else callback({ code: status.INTERNAL, details: "internal error; see the service's log", metadata });
}

function newServer(
  definition: PackageDefinition, database: Database, trust: Trust, interceptors: ServerInterceptor[],
): { server: Server; health: HealthImplementation } {
  const service = definition[serviceName] as ServiceDefinition;
  const userData = definition[userDataServiceName] as ServiceDefinition;
  const inbox = new Inbox(database);
  const server = new Server({
    "grpc.max_receive_message_length": 4 << 20,
    "grpc.max_send_message_length": 4 << 20,
    "grpc.max_concurrent_streams": 1024,
    interceptors,
  });
  server.addService(service, {
    SendWelcome: through(inbox, service["SendWelcome"]!, database, sendWelcome, trust),
    SendReview: through(inbox, service["SendReview"]!, database, sendReview, trust),
    ListMessages(call: ServerUnaryCall<ListMessagesRequest, unknown>, callback: sendUnaryData<unknown>) {
      try {
        if (hasCommandKey(call.metadata)) trust.check(call);
        callback(null, listMessages(database, call.request));
      } catch (error) {
        fail(error, call, callback);
      }
    },
  });
  server.addService(userData, {
    DeleteUserData: through(inbox, userData["DeleteUserData"]!, database, deleteUserData, trust),
  });
  const kept = [
    `${serviceName}/SendReview`, `${serviceName}/SendWelcome`, `${userDataServiceName}/DeleteUserData`,
  ];
  const participant = new Participant(
    database, inbox, [serviceName, userDataServiceName], kept, (message, fields) => log("ERROR", message, fields),
  );
  server.addService(definition[participantServiceName] as ServiceDefinition, {
    Describe: answer(participant.describe, trust),
    ListCommands: answer(participant.listCommands, trust),
    CloseCommand: answer(participant.closeCommand, trust),
  });
  const health = new HealthImplementation({
    "": "SERVING", [serviceName]: "SERVING", [userDataServiceName]: "SERVING",
  });
  health.addToServer(server);
  new ReflectionService(definition).addToServer(server);
  answerUnknownMethods(server, (call) => {
    const asked = call.getPath().startsWith(`/${participantServiceName}/`);
    if (asked || hasCommandKey(call.metadata)) trust.check(call);
  });
  return { server, health };
}

/** Executes a command, inside the inbox's transaction. */
type Handler<Request, Reply> = (database: Database, command: Command | undefined, request: Request) => Reply;

/** Returns a gRPC handler that handles its command through the inbox. */
function through<Request, Reply>(
  inbox: Inbox, method: MethodDefinition<unknown, unknown>, database: Database, handler: Handler<Request, Reply>,
  trust: Trust,
): handleUnaryCall<Request, unknown> {
  return (call, callback) => {
    try {
      if (hasCommandKey(call.metadata)) trust.check(call);
      const command = parseCommand(call.metadata);
      const { answer, verdict } = inbox.handle(command, call.getPath(), () =>
        method.responseSerialize(handler(database, command, call.request)));
      note(verdict, call, command);
      if ("reply" in answer) callback(null, method.responseDeserialize(Buffer.from(answer.reply)));
      else callback(response(answer.refusal, answer.settled ? "settled" : "attempt"));
    } catch (error) {
      fail(error, call, callback as sendUnaryData<never>);
    }
  };
}

/** Returns a gRPC handler for a question of an orchestrator. */
function answer<Request>(
  question: (call: ServerUnaryCall<Request, unknown>) => object, trust: Trust,
): handleUnaryCall<Request, unknown> {
  return (call, callback) => {
    try {
      trust.check(call);
      callback(null, question(call), marked("done"));
    } catch (error) {
      fail(error, call, callback as sendUnaryData<never>);
    }
  };
}

function note(verdict: Verdict | undefined, call: ServerUnaryCall<unknown, unknown>, command?: Command): void {
  if (verdict !== undefined) noteVerdict(verdict);
  if (verdict !== undefined && verdict !== "executed") log("INFO", "not executed", { ...ids(call, command), verdict });
}

function bind(server: Server, options: Options): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(options.listen, options.credentials, (error, port) => {
      if (error === null) return resolve(port);
      const inUse = /EADDRINUSE/.test(error.message);
      reject(new Error(inUse
        ? `listening on ${options.listen}: the port is in use: stop the other process or choose another port`
        : `listening on ${options.listen}: ${error.message}`));
    });
  });
}

/** Stops the server: new calls are refused, and calls in flight have some time to finish. */
function stop(server: Server, health: HealthImplementation, timeoutMs: number): Promise<void> {
  health.setStatus("", "NOT_SERVING");
  health.setStatus(serviceName, "NOT_SERVING");
  health.setStatus(userDataServiceName, "NOT_SERVING");
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      log("WARN", "aborting calls that did not finish in time");
      server.forceShutdown();
      resolve();
    }, timeoutMs);
    server.tryShutdown(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options === undefined) {
    process.stdout.write(help);
    return;
  }
  const contracts = [
    "acme/notification/v1/notification_service.proto", "acme/privacy/v1/user_data_service.proto",
    "treaty/v1/participant_service.proto",
  ];
  const definition = loadSync(contracts.map((file) => join(options.proto, file)), {
    includeDirs: [options.proto],
    keepCase: true,
    defaults: true,
    longs: String,
    enums: String,
    oneofs: true,
  });
  const telemetry = await startTelemetry("notification", (message, fields) => log("WARN", message, fields));
  const database = openDatabase(options.db);
  try {
    const { server, health } = newServer(definition, database, options.trust, telemetry.interceptors);
    const port = await bind(server, options);
    const signalled = new Promise<void>((resolve) => {
      process.once("SIGTERM", resolve);
      process.once("SIGINT", resolve);
    });
    process.stdout.write(`notification listening on ${options.listen.replace(/:\d+$/, `:${port}`)}\n`);
    await signalled;
    await stop(server, health, options.stopTimeoutMs);
  } finally {
    closeDatabase(database, options.db);
    await telemetry.stop();
  }
}

main().then(
  () => process.exit(0),
  (error: unknown) => {
    process.stderr.write(`notification: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(error instanceof UsageError ? 2 : 1);
  },
);
