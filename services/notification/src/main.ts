// Acme's notification service: a participant in TypeScript.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ServiceDefinition } from "@grpc/grpc-js";
import { loadSync, type PackageDefinition } from "@grpc/proto-loader";
import { Database, Inbox, Participant, type Level } from "@treatyhq/participant";
import { HealthImplementation } from "grpc-health-check";
import { help, parseOptions, UsageError, type Options } from "./options.js";
import { deleteUserData } from "./privacy.js";
import { migrations } from "./schema.js";
import { listMessages, sendReview, sendWelcome, type ListMessagesRequest } from "./service.js";
import { startTelemetry } from "./telemetry.js";

const serviceName = "acme.notification.v1.NotificationService";
const userDataServiceName = "acme.privacy.v1.UserDataService";

function log(level: Level, message: string, fields: Readonly<Record<string, unknown>> = {}): void {
  const record = { time: new Date().toISOString(), level, msg: message, service: "notification", ...fields };
  process.stderr.write(`${JSON.stringify(record)}\n`);
}

function newParticipant(
  definition: PackageDefinition, database: Database, options: Options,
): { participant: Participant; health: HealthImplementation } {
  const participant = new Participant({
    name: "acme-notification", inbox: new Inbox(database), orchestrators: options.orchestrators, log,
    descriptors: readFileSync(options.descriptors),
  });
  participant.addService(definition[serviceName] as ServiceDefinition, {
    commands: { SendWelcome: sendWelcome, SendReview: sendReview },
    reads: { ListMessages: (request: ListMessagesRequest) => listMessages(database, request) },
  });
  participant.addService(definition[userDataServiceName] as ServiceDefinition, {
    commands: { DeleteUserData: deleteUserData },
  });
  const health = new HealthImplementation({
    "": "SERVING", [serviceName]: "SERVING", [userDataServiceName]: "SERVING",
  });
  health.addToServer(participant.server);
  return { participant, health };
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options === undefined) {
    process.stdout.write(help);
    return;
  }
  process.umask(0o077); // only this user can read the database and its journal
  const contracts = [
    "acme/notification/v1/notification_service.proto", "acme/privacy/v1/user_data_service.proto",
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
  const database = Database.open(options.db, migrations);
  try {
    const { participant, health } = newParticipant(definition, database, options);
    const port = await participant.listen(options.listen);
    const signalled = new Promise<void>((resolve) => {
      process.once("SIGTERM", resolve);
      process.once("SIGINT", resolve);
    });
    process.stdout.write(`notification listening on ${options.listen.address.replace(/:\d+$/, `:${port}`)}\n`);
    await signalled;
    for (const name of ["", serviceName, userDataServiceName]) health.setStatus(name, "NOT_SERVING");
    await participant.stop(options.stopTimeoutMs);
  } finally {
    database.close();
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
