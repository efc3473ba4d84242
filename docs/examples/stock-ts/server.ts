// The stock service. It is a participant: an ordinary gRPC server, whose inbox makes sure that each command takes
// effect once. Start it with the address to listen on and the file of the database.

import { existsSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  Server, ServerCredentials, status, type handleUnaryCall, type sendUnaryData, type ServiceDefinition,
} from "@grpc/grpc-js";
import { loadSync, type MessageTypeDefinition } from "@grpc/proto-loader";
import sqlite from "node-sqlite3-wasm";
import { answer, detail, Failure, Inbox } from "./inbox.js";

const [listen = "127.0.0.1:7101", path = "data/stock-ts.db"] = process.argv.slice(2);

// The contracts are read from their .proto files, in the folders of the project.
const project = fileURLToPath(new URL("../../", import.meta.url));
const contract = loadSync("stock/v1/stock_service.proto", {
  includeDirs: [join(project, "proto"), join(project, "third_party")], keepCase: true, defaults: true,
});
const service = contract["stock.v1.StockService"] as ServiceDefinition;
const OutOfStock = contract["stock.v1.OutOfStock"] as MessageTypeDefinition<object, object>;

interface ReserveStockRequest {
  item: string;
  quantity: number;
}

interface ReleaseStockRequest {
  action: ReserveStockRequest;
  reply: { reservation: string } | null;
}

// This SQLite library locks a file with a folder, which stays if the process is killed.
if (existsSync(`${path}.lock`)) rmdirSync(`${path}.lock`);
const database = new sqlite.Database(path);
database.exec(`
  PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = EXTRA;
  CREATE TABLE IF NOT EXISTS items (name TEXT PRIMARY KEY, quantity INTEGER NOT NULL CHECK (quantity >= 0));
  CREATE TABLE IF NOT EXISTS reservations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT NOT NULL, quantity INTEGER NOT NULL
  );
  INSERT INTO items VALUES ('teapot', 100) ON CONFLICT DO NOTHING`);
const inbox = new Inbox(database);

function reserveStock({ item, quantity }: ReserveStockRequest): object {
  if (quantity <= 0) throw new Failure(status.INVALID_ARGUMENT, "quantity: want 1 or more");
  const available = Number(database.get("SELECT quantity FROM items WHERE name = ?", [item])?.["quantity"] ?? 0);
  if (available < quantity) {
    // The refusal that the contract names, as a detail of the error.
    throw new Failure(status.FAILED_PRECONDITION, "there isn't enough in stock",
      detail("stock.v1.OutOfStock", OutOfStock.serialize({ available })));
  }
  database.run("UPDATE items SET quantity = quantity - ? WHERE name = ?", [quantity, item]);
  const { lastInsertRowid } = database.run("INSERT INTO reservations (item, quantity) VALUES (?, ?)", [item, quantity]);
  return { reservation: `reservations/${lastInsertRowid}` };
}

/** Undoes reserveStock. The inbox calls it only if the reservation was made. */
function releaseStock({ action, reply }: ReleaseStockRequest, actionReply?: Uint8Array): object {
  // If the orchestrator never received the reply, it is in the inbox only.
  const { reservation } = reply ?? reserved(actionReply ?? new Uint8Array());
  database.run("DELETE FROM reservations WHERE 'reservations/' || id = ?", [reservation]);
  database.run("UPDATE items SET quantity = quantity + ? WHERE name = ?", [action.quantity, action.item]);
  return {};
}

function reserved(reply: Uint8Array): { reservation: string } {
  return service["ReserveStock"]!.responseDeserialize(Buffer.from(reply)) as { reservation: string };
}

/** Returns a gRPC handler that handles a command through the inbox. */
function through<Request>(
  method: string, handler: (request: Request, actionReply?: Uint8Array) => object,
): handleUnaryCall<Request, unknown> {
  const { path, responseSerialize, responseDeserialize } = service[method]!;
  return (call, callback) => {
    try {
      const handled = inbox.handle(call.metadata, path, (actionReply) =>
        responseSerialize(handler(call.request, actionReply)));
      // What is stored holds for every attempt of the command. This is after the commit.
      if ("refusal" in handled) callback(answer(handled.refusal, "settled"));
      else callback(null, responseDeserialize(Buffer.from(handled.reply)));
    } catch (error) {
      callback(answer(failure(error).encoded, "attempt"));
    }
  };
}

/** Returns what the caller gets to know of an error. */
function failure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  console.error(error);
  return error instanceof sqlite.SQLite3Error
    ? new Failure(status.UNAVAILABLE, "the database failed") // also at the commit: the next attempt finds out
    : new Failure(status.INTERNAL, "internal error; see the service's log");
}

const server = new Server();
server.addService(service, {
  ReserveStock: through("ReserveStock", reserveStock),
  ReleaseStock: through("ReleaseStock", releaseStock),
});

// Whoever marks answers says in its own name, too, that it has no ParticipantService.
const none = new Failure(status.UNIMPLEMENTED, "this participant has no ParticipantService");
const same = (bytes: Buffer) => bytes;
const methods = ["Describe", "ListCommands", "CloseCommand"];
server.addService(
  Object.fromEntries(methods.map((name) => [name, {
    path: `/treaty.v1.ParticipantService/${name}`, requestStream: false, responseStream: false,
    requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
  }])),
  Object.fromEntries(methods.map((name) => [name, (_: unknown, callback: sendUnaryData<Buffer>) => {
    callback(answer(none.encoded, "attempt"));
  }])),
);

server.bindAsync(listen, ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) {
    console.error(`stock: listening on ${listen}: ${error.message}`);
    process.exit(1);
  }
  console.log(`stock listening on port ${port}`);
});
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => server.tryShutdown(() => {
    database.close();
    process.exit(0);
  }));
}
