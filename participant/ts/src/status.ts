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

const typeUrl = "type.googleapis.com/";

/** A message in the details of an error, such as a rejection that the contract names. */
export interface Detail {
  /** The message's full name, such as "stock.v1.OutOfStock". */
  readonly type: string;
  /** The serialized message. */
  readonly value: Uint8Array;
}

/**
 * An error whose status reaches the caller. A handler throws it to refuse a command, with one of the codes that refuse
 * (INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, OUT_OF_RANGE, PERMISSION_DENIED), or to say that
 * another attempt may succeed (ABORTED, RESOURCE_EXHAUSTED, UNAVAILABLE). The text of any other error that a handler
 * throws stays in the service's log.
 *
 * The message and the details of a refusal are stored, here and at the orchestrator. Keep personal data out of them.
 */
export class StatusError extends Error {
  override readonly name: string = "StatusError";

  /** The serialized google.rpc.Status. */
  readonly encoded: Uint8Array;

  constructor(readonly code: status, message: string, ...details: readonly Detail[]) {
    super(message);
    const packed = details.map(({ type, value }) => ({ type_url: typeUrl + type, value }));
    this.encoded = Status.encode({ code, message, details: packed }).finish();
  }
}

/** Returns an error with one of the reasons of Treaty's protocol, as a google.rpc.ErrorInfo. */
export function because(
  code: status, reason: string, message: string, more: Readonly<Record<string, string>> = {},
): StatusError {
  const metadata = Object.entries(more).map(([key, value]) => ({ key, value }));
  const value = ErrorInfo.encode({ reason, domain: "treaty", metadata }).finish();
  return new StatusError(code, message, { type: "google.rpc.ErrorInfo", value });
}

/** The codes that say: not executed, and trying again won't help. */
const refusing: ReadonlySet<status> = new Set([
  status.INVALID_ARGUMENT, status.NOT_FOUND, status.ALREADY_EXISTS, status.FAILED_PRECONDITION, status.OUT_OF_RANGE,
  status.PERMISSION_DENIED,
]);

/** Reports whether a code refuses a command, unless its contract says otherwise. */
export function isRefusal(code: status): boolean {
  return refusing.has(code);
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

/** A google.rpc.Status with the fields' names. */
export interface DecodedStatus {
  readonly code: status;
  readonly message: string;
  readonly details: readonly { readonly type_url: string; readonly value: Uint8Array }[];
}

/** Decodes a serialized google.rpc.Status. */
export function decodeStatus(encoded: Uint8Array): DecodedStatus {
  return Status.decode(encoded) as unknown as DecodedStatus;
}

/**
 * The size of the largest error that reaches a caller with its details, in bytes of the serialized google.rpc.Status.
 * Errors are sent in a trailer, which proxies and clients limit.
 */
export const maxErrorBytes = 16 << 10;

/** The length of the message of an error that was too large, in characters. */
const maxErrorMessage = 1 << 10;

/** Converts a serialized google.rpc.Status into a gRPC response. If it is too large, its details are left out. */
export function response(encoded: Uint8Array, mark: Mark): ServerErrorResponse {
  const { code, message } = decodeStatus(encoded);
  if (encoded.length > maxErrorBytes) {
    const short = `${message.slice(0, maxErrorMessage)} (without its details: it has ${encoded.length} bytes, and ` +
      `at most ${maxErrorBytes} are allowed)`;
    return response(new StatusError(code, short).encoded, mark);
  }
  const metadata = marked(mark);
  metadata.set("grpc-status-details-bin", Buffer.from(encoded));
  return Object.assign(new Error(message), { code, details: message, metadata });
}
