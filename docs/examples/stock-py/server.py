"""The stock service. It is a participant: an ordinary gRPC server with an inbox.

Start it with the address to listen on and the file of the database.
"""

import signal
import sys
from concurrent import futures

import grpc

from inbox import Failure, Inbox, answer
from stock.v1 import stock_service_pb2 as stock
from stock.v1 import stock_service_pb2_grpc as stock_grpc

TABLES = """
    CREATE TABLE IF NOT EXISTS items (name TEXT PRIMARY KEY, quantity INTEGER NOT NULL CHECK (quantity >= 0));
    CREATE TABLE IF NOT EXISTS reservations (
        id INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT NOT NULL, quantity INTEGER NOT NULL
    );
    INSERT INTO items VALUES ('teapot', 100) ON CONFLICT DO NOTHING;
"""


class StockService(stock_grpc.StockServiceServicer):
    def __init__(self, inbox):
        self.inbox = inbox

    def ReserveStock(self, request, context):
        def reserve(_):
            execute = self.inbox.database.execute
            if request.quantity <= 0:
                raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "quantity: want 1 or more")
            row = execute("SELECT quantity FROM items WHERE name = ?", [request.item]).fetchone()
            available = row[0] if row else 0
            if available < request.quantity:
                # The refusal that the contract names, as a detail of the error.
                raise Failure(
                    grpc.StatusCode.FAILED_PRECONDITION, "there isn't enough in stock",
                    stock.OutOfStock(available=available))
            execute("UPDATE items SET quantity = quantity - ? WHERE name = ?", [request.quantity, request.item])
            row = execute(
                "INSERT INTO reservations (item, quantity) VALUES (?, ?)", [request.item, request.quantity])
            return stock.StockReserved(reservation=f"reservations/{row.lastrowid}").SerializeToString()

        reply = self.inbox.handle(context, "/stock.v1.StockService/ReserveStock", reserve)
        return stock.StockReserved.FromString(reply)

    def ReleaseStock(self, request, context):
        """Undoes ReserveStock. The inbox calls release only if the reservation was made."""
        def release(action_reply):
            # If the orchestrator never received the reply, it is in the inbox only.
            known = request.HasField("reply")
            reserved = request.reply if known else stock.StockReserved.FromString(action_reply or b"")
            execute = self.inbox.database.execute
            execute("DELETE FROM reservations WHERE 'reservations/' || id = ?", [reserved.reservation])
            execute(
                "UPDATE items SET quantity = quantity + ? WHERE name = ?",
                [request.action.quantity, request.action.item])
            return stock.StockReleased().SerializeToString()

        reply = self.inbox.handle(context, "/stock.v1.StockService/ReleaseStock", release)
        return stock.StockReleased.FromString(reply)


class Unknown(grpc.GenericRpcHandler):
    """Answers every other method, ParticipantService's too. Whoever marks answers marks these, too."""

    def service(self, handler_call_details):
        def unknown(_, context):
            answer(context, Failure(grpc.StatusCode.UNIMPLEMENTED, "isn't served here").status, "attempt")

        return grpc.unary_unary_rpc_method_handler(unknown)


def main():
    listen, path = (sys.argv[1:] + ["127.0.0.1:7101", "data/stock-py.db"][len(sys.argv) - 1:])[:2]
    inbox = Inbox(path)
    inbox.database.executescript(TABLES)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=10))
    stock_grpc.add_StockServiceServicer_to_server(StockService(inbox), server)
    server.add_generic_rpc_handlers((Unknown(),))
    server.add_insecure_port(listen)
    server.start()
    print(f"stock listening on {listen}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: server.stop(10))
    server.wait_for_termination()


if __name__ == "__main__":
    main()
