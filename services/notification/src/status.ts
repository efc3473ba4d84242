// gRPC errors with typed details, in the form of google.rpc.Status, which is how refusals are sent and stored.

import { Metadata, status, type ServerErrorResponse } from "@grpc/grpc-js";
import protobuf from "protobufjs";

const root = protobuf.Root.fromJSON({
  nested: {
    Any: {
      fields: { type_url: { type: "string", id: 1 }, value: { type: "bytes", id: 2 } },
    },
    Status: {
      fields: {
        code: { type: "int32", id: 1 },
        message: { type: "string", id: 2 },
        details: { rule: "repeated", type: "Any", id: 3 },
      },
    },
    ErrorInfo: {
      fields: {
        reason: { type: "string", id: 1 },
        domain: { type: "string", id: 2 },
        metadata: { rule: "repeated", type: "Entry", id: 3 }, // a map's entries
      },
    },
    Entry: {
      fields: { key: { type: "string", id: 1 }, value: { type: "string", id: 2 } },
    },
  },
});
const Status = root.lookupType("Status");
const ErrorInfo = root.lookupType("ErrorInfo");

/** An error whose status is meant for the caller. */
export class Refusal extends Error {
  readonly encoded: Uint8Array;

  /** If there is a reason, the status has an ErrorInfo with it and with metadata, in the domain "treaty". */
  constructor(readonly code: status, message: string, reason?: string, more: Record<string, string> = {}) {
    super(message);
    const details = [];
    const metadata = Object.entries(more).map(([key, value]) => ({ key, value }));
    if (reason !== undefined) {
      details.push({
        type_url: "type.googleapis.com/google.rpc.ErrorInfo",
        value: ErrorInfo.encode({ reason, domain: "treaty", metadata }).finish(),
      });
    }
    this.encoded = Status.encode({ code, message, details }).finish();
  }

  /** Reports whether the command was certainly not executed and retrying won't help. */
  get refuses(): boolean {
    return [
      status.INVALID_ARGUMENT,
      status.NOT_FOUND,
      status.ALREADY_EXISTS,
      status.FAILED_PRECONDITION,
      status.OUT_OF_RANGE,
      status.PERMISSION_DENIED,
    ].includes(this.code);
  }
}

/**
 * What an answer covers, in its trailer: "settled" for one that the inbox has stored, which holds for every attempt of
 * the command; "attempt" for every other error; "done" for an OK where a command could have been accepted instead.
 */
export type Mark = "settled" | "attempt" | "done";

/** Returns trailers with a mark. */
export function marked(mark: Mark): Metadata {
  const metadata = new Metadata();
  metadata.set("treaty-answer", mark);
  return metadata;
}

/** Returns the code, the message and the details of a serialized google.rpc.Status, with the fields' names. */
export function decodeStatus(encoded: Uint8Array): { code: number; message: string; details: unknown[] } {
  return Status.decode(encoded) as unknown as { code: number; message: string; details: unknown[] };
}

/** Converts a google.rpc.Status into a gRPC response. */
export function response(encoded: Uint8Array, mark: Mark): ServerErrorResponse {
  const decoded = Status.decode(encoded) as unknown as { code: status; message: string };
  const metadata = marked(mark);
  metadata.set("grpc-status-details-bin", Buffer.from(encoded));
  return Object.assign(new Error(decoded.message), { code: decoded.code, details: decoded.message, metadata });
}
