// What an inbox answers to a call that it doesn't execute.

import { status } from "@grpc/grpc-js";
import type { Command, Direction } from "./command.js";
import type { Rules, StoredVerdict } from "./inbox.js";
import { because, StatusError } from "./status.js";

/** A stored answer. */
export interface Entry {
  readonly commandId: string;
  readonly direction: Direction;
  readonly method: string;
  readonly verdict: StoredVerdict;
  readonly reply: Uint8Array;
  readonly epoch: bigint;
  readonly digest: string;
}

/** What is known of a command. */
export interface Known {
  readonly action: Entry | undefined;
  readonly compensation: Entry | undefined;
  /** The highest epoch of the scope, or of the saga if the command has no scope. */
  readonly epoch: bigint;
  readonly horizon: bigint;
}

/** Throws an error for a reply that the orchestrator couldn't receive. */
export function checkSize(bytes: number, { maxReplyBytes, retriable }: Rules, direction: Direction): void {
  if (bytes <= maxReplyBytes) return;
  const code = retriable && direction === "action" ? status.INTERNAL : status.OUT_OF_RANGE;
  throw new StatusError(code, `the reply has ${bytes} bytes, and at most ${maxReplyBytes} are allowed: store the ` +
    "data and reply with its name");
}

/** Refuses to accept a call that isn't made for a saga. */
export function onlySagas(method: string): StatusError {
  return new StatusError(
    status.FAILED_PRECONDITION, `${method.replace(/^\//, "")} is completed later, so only a saga can call it: the ` +
      "call has no metadata treaty-command-id; start a saga instead",
  );
}

/** Refuses a call of an orchestrator process that was replaced. */
export function stale(what: string, epoch: bigint, known: bigint): StatusError {
  const message = `${what} was sent under epoch ${epoch}, which epoch ${known} has replaced`;
  return because(status.ABORTED, "STALE_EPOCH", message, { epoch: String(known) });
}

/**
 * Refuses a command whose id is known for another request. The digest is the action's for both directions. One that is
 * missing, from an older orchestrator, matches everything.
 */
export function otherRequest(known: Known, command: Command, method: string): StatusError | undefined {
  for (const entry of [known.action, known.compensation]) {
    if (entry === undefined) continue;
    const otherMethod = entry.direction === command.direction && entry.method !== method;
    const otherDigest = entry.digest !== "" && command.digest !== "" && entry.digest !== command.digest;
    if (!otherMethod && !otherDigest) continue;
    const message = `another request is known under ${command.commandId}: ${entry.method} ${entry.direction}, with ` +
      `the digest "${entry.digest}"`;
    const more = { method: entry.method.replace(/^\//, ""), digest: entry.digest };
    return because(status.INTERNAL, "OTHER_REQUEST", message, more);
  }
  return undefined;
}

/** Refuses an action whose compensation has arrived. */
export function compensatedBefore({ commandId }: Command): StatusError {
  return because(status.FAILED_PRECONDITION, "COMPENSATED_BEFORE", `${commandId} was compensated`);
}

/** Refuses an action that its orchestrator has closed before it arrived. */
export function closedBefore({ commandId }: Command): StatusError {
  const message = `${commandId} was closed by its orchestrator before it arrived`;
  return because(status.FAILED_PRECONDITION, "CLOSED_BEFORE", message);
}

/** Reports whether the rows of a command may have been deleted. */
export function isPurged(known: Known, command: Command): boolean {
  return known.action === undefined && known.compensation === undefined && command.start > 0n &&
    command.start < known.horizon;
}

/** Refuses a command whose rows may have been deleted. */
export function purged({ commandId }: Command): StatusError {
  const message = `it is no longer known what became of ${commandId}: its orchestrator had said that it sends no ` +
    "more commands of sagas that started before it";
  return because(status.INTERNAL, "PURGED", message);
}
