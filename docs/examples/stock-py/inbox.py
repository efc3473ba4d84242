"""The inbox commits the effect of a command together with its answer, once for each command id and direction."""

import re
import sqlite3
import threading
import time

import grpc
from google.rpc import error_details_pb2, status_pb2

REFUSING = {
    grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.PERMISSION_DENIED,
}
CODES = {code.value[0]: code for code in grpc.StatusCode}
# Of each key, what its value is like, and what stands for it if it is missing. Only two are mandatory.
KEYS = {
    "treaty-command-id": (r"sagas/[^/]+/steps/[^/]+", None),
    "treaty-direction": (r"action|compensation", None),
    "treaty-saga": (r".+", ""),
    "treaty-attempt": (r"[1-9][0-9]{0,8}", "1"),
    "treaty-epoch": (r"[0-9]{1,19}", "0"),
    "treaty-scope": (r"[!-.0-~]{0,100}/[!-.0-~]{1,20}", ""),
    "treaty-start": (r"[0-9]{1,18}", "0"),
    "treaty-request-digest": (r"[0-9a-f]{64}", ""),
}


class Failure(Exception):
    """An error whose google.rpc.Status reaches the caller."""

    def __init__(self, code, message, *details):
        super().__init__(message)
        self.code = code
        self.status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            self.status.details.add().Pack(detail)


def because(code, reason, message, **metadata):
    """Returns an error with one of Treaty's reasons."""
    return Failure(code, message, error_details_pb2.ErrorInfo(reason=reason, domain="treaty", metadata=metadata))


def answer(context, status, mark):
    """Ends a call with a google.rpc.Status, and with the mark that says what the answer covers."""
    context.set_trailing_metadata((
        ("treaty-answer", mark), ("grpc-status-details-bin", status.SerializeToString()),
    ))
    context.abort(CODES[status.code], status.message)


def parse_command(metadata):
    """Reads a command. Returns None if the call isn't made for a saga: it has none of the keys."""
    found = {key: [value for name, value in metadata if name == key] for key in KEYS}
    if not any(found.values()):
        return None
    command = {}
    for key, (pattern, missing) in KEYS.items():
        values = found[key] or [missing]
        # What is malformed can't be recognized when it comes again, so it isn't executed.
        if len(values) > 1 or values[0] is None or (found[key] and not re.fullmatch(pattern, values[0])):
            raise because(grpc.StatusCode.INVALID_ARGUMENT, "METADATA_INVALID", f"metadata {key}: is malformed")
        command[key.removeprefix("treaty-")] = values[0]
    if command["saga"] not in ("", command["command-id"].partition("/steps/")[0]):
        raise because(grpc.StatusCode.INVALID_ARGUMENT, "METADATA_INVALID", "metadata treaty-saga: is another saga")
    command["epoch"] = int(command["epoch"])
    # The upper bits of an epoch are milliseconds. One from the far future would shut out every later one.
    if command["epoch"] >> 20 > (time.time() + 24 * 60 * 60) * 1000:
        raise because(grpc.StatusCode.UNAUTHENTICATED, "EPOCH_AHEAD", "the epoch is more than a day ahead")
    return command


class Inbox:
    """One connection, one transaction at a time."""

    def __init__(self, path):
        self.database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.lock = threading.Lock()
        self.database.executescript("""
            PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
            CREATE TABLE IF NOT EXISTS inbox (
                command_id TEXT NOT NULL, direction TEXT NOT NULL, method TEXT NOT NULL, verdict TEXT NOT NULL,
                reply BLOB NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (command_id, direction)
            );
            CREATE TABLE IF NOT EXISTS scopes (scope TEXT PRIMARY KEY, epoch INTEGER NOT NULL);
        """)

    def handle(self, context, method, handler):
        """Returns the serialized reply, or ends the call with an error.

        handler is called with the action's serialized reply if the command is a compensation, and with None otherwise.
        It returns the serialized reply.
        """
        try:
            command = parse_command(context.invocation_metadata())
            if command is None:
                return self.transaction(lambda: handler(None))
            if command["scope"]:
                self.hear(command)
            reply, refusal = self.transaction(lambda: self.decide(command, method, handler))
        except Failure as failure:
            answer(context, failure.status, "attempt")
        except sqlite3.Error:  # also at the commit: the next attempt finds out
            answer(context, Failure(grpc.StatusCode.UNAVAILABLE, "the database failed").status, "attempt")
        if refusal is not None:  # only now that it is committed
            answer(context, status_pb2.Status.FromString(refusal), "settled")
        return reply

    def hear(self, command):
        """Raises the epoch of the command's scope, or raises STALE_EPOCH if a later one is known."""
        def raise_epoch():
            row = self.database.execute("SELECT epoch FROM scopes WHERE scope = ?", [command["scope"]]).fetchone()
            if row is None or command["epoch"] > row[0]:
                self.database.execute(
                    "INSERT OR REPLACE INTO scopes VALUES (?, ?)", [command["scope"], command["epoch"]])
            return row[0] if row else 0

        known = self.transaction(raise_epoch)
        if command["epoch"] < known:
            raise because(
                grpc.StatusCode.ABORTED, "STALE_EPOCH",
                f"{command['command-id']}: epoch {command['epoch']} was replaced by {known}", epoch=str(known))

    def decide(self, command, method, handler):
        """Returns a reply and a refusal, of which one is None. Both are serialized."""
        command_id, direction, digest = command["command-id"], command["direction"], command["request-digest"]
        rows = {row[0]: row for row in self.database.execute(
            "SELECT direction, method, verdict, reply, digest FROM inbox WHERE command_id = ?", [command_id])}
        for row in rows.values():
            if (row[0] == direction and row[1] != method) or (row[4] and digest and row[4] != digest):
                raise because(
                    grpc.StatusCode.INTERNAL, "OTHER_REQUEST", f"{command_id} is known as another request",
                    method=row[1].removeprefix("/"), digest=row[4])

        def store(verdict, reply):
            self.database.execute(
                "INSERT INTO inbox VALUES (?, ?, ?, ?, ?, ?)", [command_id, direction, method, verdict, reply, digest])
            return (None, reply) if verdict == "refused" else (reply, None)

        action = rows.get("action")
        if direction == "action" and "compensation" in rows:
            late = because(
                grpc.StatusCode.FAILED_PRECONDITION, "COMPENSATED_BEFORE", f"{command_id} was compensated")
            late = late.status.SerializeToString()
            return (None, late) if action else store("refused", late)
        if direction in rows:
            _, _, verdict, reply, _ = rows[direction]
            return (None, reply) if verdict == "refused" else (reply, None)
        if direction == "compensation" and (action is None or action[2] != "executed"):
            return store("nothing to undo", b"")
        self.database.execute("SAVEPOINT handler")
        try:
            return store("executed", handler(action[3] if action else None))
        except Failure as failure:
            # A compensation's refusal isn't stored, so that an operator can send it again.
            if failure.code not in REFUSING or direction != "action":
                raise
            self.database.execute("ROLLBACK TO handler")
            return store("refused", failure.status.SerializeToString())

    def transaction(self, run):
        with self.lock:
            self.database.execute("BEGIN IMMEDIATE")
            try:
                result = run()
                self.database.execute("COMMIT")
                return result
            except BaseException:
                if self.database.in_transaction:
                    self.database.execute("ROLLBACK")
                raise
