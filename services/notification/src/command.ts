// Reads a command from a call's metadata. A call without a command id isn't made for a saga.

import { status, type Metadata } from "@grpc/grpc-js";
import { Refusal } from "./status.js";

export type Direction = "action" | "compensation";

export interface Command {
  /** "sagas/{saga}" */
  readonly saga: string;
  /** "sagas/{saga}/steps/{step}": the same for all attempts and in both directions. */
  readonly commandId: string;
  readonly direction: Direction;
  /** Starts at 1. */
  readonly attempt: number;
  /** A call with a lower epoch than before comes from an orchestrator process that was replaced. */
  readonly epoch: bigint;
}

const maxCommandId = 512;

/** Returns the command, or undefined if the call has no command id. Throws INVALID_ARGUMENT for malformed metadata. */
export function parseCommand(metadata: Metadata): Command | undefined {
  const ids = metadata.get("treaty-command-id");
  if (ids.length === 0) return undefined;
  const commandId = String(ids[0]);
  const parts = /^(sagas\/[^/]+)\/steps\/[^/]+$/.exec(commandId);
  if (ids.length > 1 || parts === null || Buffer.byteLength(commandId) > maxCommandId) {
    throw malformed("treaty-command-id", "one sagas/{saga}/steps/{step}");
  }
  const saga = first(metadata, "treaty-saga") || parts[1]!;
  if (saga !== parts[1]) throw malformed("treaty-saga", "the saga in treaty-command-id");
  const direction = first(metadata, "treaty-direction");
  if (direction !== "action" && direction !== "compensation") {
    throw malformed("treaty-direction", '"action" or "compensation"');
  }
  const attempt = first(metadata, "treaty-attempt") || "1";
  if (!/^[0-9]{1,10}$/.test(attempt) || Number(attempt) === 0 || Number(attempt) >= 2 ** 31) {
    throw malformed("treaty-attempt", "a decimal number from 1");
  }
  const epoch = first(metadata, "treaty-epoch") || "0";
  if (!/^[0-9]{1,19}$/.test(epoch) || BigInt(epoch) >= 2n ** 63n) {
    throw malformed("treaty-epoch", "a decimal number below 2^63");
  }
  return { saga, commandId, direction, attempt: Number(attempt), epoch: BigInt(epoch) };
}

function first(metadata: Metadata, key: string): string {
  return String(metadata.get(key)[0] ?? "");
}

function malformed(key: string, want: string): Refusal {
  return new Refusal(status.INVALID_ARGUMENT, `metadata ${key}: want ${want}`);
}
