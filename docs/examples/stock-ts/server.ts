// The stock service. It is a participant: an ordinary gRPC server, whose inbox makes sure that each command takes
// effect once. Start it with the address to listen on and the file of the database.

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { status } from "@grpc/grpc-js";
import { loadSync, type MessageTypeDefinition, type ServiceDefinition } from "@grpc/proto-loader";
import { Database, Inbox, Participant, protoDirectory, StatusError, type Tx } from "@treatyhq/participant";

interface ReserveStockRequest {
  item: string;
  quantity: number;
}

interface StockReserved {
  reservation: string;
}

interface ReleaseStockRequest {
  action: ReserveStockRequest;
  reply: StockReserved | null;
}

const [address = "127.0.0.1:7101", path = "data/stock-ts.db"] = process.argv.slice(2);

// The contract is read from its .proto file, in the folder of the project.
const contract = loadSync("stock/v1/stock_service.proto", {
  includeDirs: [fileURLToPath(new URL("../../proto", import.meta.url)), protoDirectory],
  keepCase: true, defaults: true,
});
const OutOfStock = contract["stock.v1.OutOfStock"] as MessageTypeDefinition<object, object>;

function reserveStock({ database }: Tx, { item, quantity }: ReserveStockRequest): StockReserved {
  if (quantity <= 0) throw new StatusError(status.INVALID_ARGUMENT, "quantity: want 1 or more");
  const available = Number(database.get("SELECT quantity FROM items WHERE name = ?", [item])?.["quantity"] ?? 0);
  if (available < quantity) {
    // The refusal that the contract names, as a detail of the error.
    throw new StatusError(status.FAILED_PRECONDITION, "there isn't enough in stock", {
      type: "stock.v1.OutOfStock", value: OutOfStock.serialize({ available }),
    });
  }
  database.run("UPDATE items SET quantity = quantity - ? WHERE name = ?", [quantity, item]);
  const { lastInsertRowid } = database.run("INSERT INTO reservations (item, quantity) VALUES (?, ?)", [item, quantity]);
  return { reservation: `reservations/${lastInsertRowid}` };
}

/** Undoes reserveStock. The inbox calls it only if the reservation was made. */
function releaseStock(tx: Tx, { action, reply }: ReleaseStockRequest): object {
  // If the orchestrator never received the reply, it is in the inbox only.
  const { reservation } = reply ?? (tx.actionReply() as StockReserved);
  tx.database.run("DELETE FROM reservations WHERE 'reservations/' || id = ?", [reservation]);
  tx.database.run("UPDATE items SET quantity = quantity + ? WHERE name = ?", [action.quantity, action.item]);
  return {};
}

// Each entry is a version of the service's own tables. Only append to them.
const database = Database.open(path, [`
  CREATE TABLE items (name TEXT PRIMARY KEY, quantity INTEGER NOT NULL CHECK (quantity >= 0));
  CREATE TABLE reservations (id INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT NOT NULL, quantity INTEGER NOT NULL);
  INSERT INTO items VALUES ('teapot', 100)`,
]);
const participant = new Participant({ name: "stock", inbox: new Inbox(database) });
participant.addService(contract["stock.v1.StockService"] as ServiceDefinition, {
  commands: { ReserveStock: reserveStock, ReleaseStock: releaseStock },
});
console.log(`stock listening on port ${await participant.listen({ address })}`);
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => {
    void participant.stop().then(() => {
      database.close();
      process.exit(0);
    });
  });
}
