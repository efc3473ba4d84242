// Reads a command from a call's metadata. A call without any key of a command isn't made for a saga.

import { status, type Metadata } from "@grpc/grpc-js";
import { because, type StatusError } from "./status.js";

/** The two commands of a step: the action, and the compensation that undoes it. */
export type Direction = "action" | "compensation";

/** Identifies a command: the same values for all attempts. */
export interface CommandKey {
  /** "sagas/{saga}/steps/{step}": the same in both directions. */
  readonly commandId: string;
  readonly direction: Direction;
}

/** What a call that is made for a saga says about itself, in its metadata. */
export interface Command extends CommandKey {
  /** "sagas/{saga}" */
  readonly saga: string;
  /** Starts at 1, and starts again when the orchestrator's process restarts. Decide nothing by it. */
  readonly attempt: number;
  /** A call with a lower epoch than before comes from an orchestrator process that was replaced. */
  readonly epoch: bigint;
  /** The scope of the epoch, "{name}/{shard}". Empty: an older orchestrator, whose epochs belong to each saga. */
  readonly scope: string;
  /** The saga's start in microseconds since 1970, or 0. */
  readonly start: bigint;
  /** The digest of the action's request, for both directions. Empty: an older orchestrator. */
  readonly digest: string;
}

/** The keys of a command's metadata. */
const commandKeys = [
  "treaty-saga", "treaty-command-id", "treaty-direction", "treaty-attempt", "treaty-epoch", "treaty-scope",
  "treaty-start", "treaty-request-digest",
];

/** Returns whether a call has a key of a command. If so, it is made for a saga. */
export function hasCommandKey(metadata: Metadata): boolean {
  return commandKeys.some((key) => metadata.get(key).length > 0);
}

const maxCommandId = 512;

/** Returns the saga in a command id, or undefined if it isn't one. */
export function sagaOf(commandId: string): string | undefined {
  if (Buffer.byteLength(commandId) > maxCommandId) return undefined;
  return /^(sagas\/[^/]+)\/steps\/[^/]+$/.exec(commandId)?.[1];
}

/** Reports whether a text is a digest, or empty. */
export function isDigest(text: string): boolean {
  return /^([0-9a-f]{64})?$/.test(text);
}

/** How far an epoch may be ahead of the clock. Its upper bits are milliseconds since 1970. */
const maxEpochAheadMs = 24 * 60 * 60 * 1000;

/** Throws UNAUTHENTICATED for an epoch that no later one could follow. */
export function checkEpoch(epoch: bigint): void {
  if (epoch >> 20n > BigInt(Date.now() + maxEpochAheadMs)) {
    throw because(
      status.UNAUTHENTICATED, "EPOCH_AHEAD", `the epoch ${epoch} is more than a day ahead of this participant's clock`,
    );
  }
}

/** Returns the scope and the epoch of a call's metadata. Throws INVALID_ARGUMENT if they are malformed. */
export function parseEpoch(metadata: Metadata): { scope: string; epoch: bigint } {
  for (const key of ["treaty-epoch", "treaty-scope"]) {
    if (metadata.get(key).length > 1) throw malformed(key, "one value");
  }
  const epoch = first(metadata, "treaty-epoch") || "0";
  if (!/^[0-9]{1,19}$/.test(epoch) || BigInt(epoch) >= 2n ** 63n) {
    throw malformed("treaty-epoch", "a decimal number below 2^63");
  }
  const scope = first(metadata, "treaty-scope");
  if (scope !== "" && (!/^[!-.0-~]*\/[!-.0-~]+$/.test(scope) || scope.length > 128)) {
    throw malformed("treaty-scope", "{name}/{shard} of at most 128 bytes");
  }
  if (scope !== "" && epoch === "0") throw malformed("treaty-epoch", "one, as there is a treaty-scope");
  checkEpoch(BigInt(epoch));
  return { scope, epoch: BigInt(epoch) };
}

/** Returns the command, or undefined if the call has no key of one. Throws INVALID_ARGUMENT for malformed metadata. */
export function parseCommand(metadata: Metadata): Command | undefined {
  if (!hasCommandKey(metadata)) return undefined;
  for (const key of commandKeys) if (metadata.get(key).length > 1) throw malformed(key, "one value");
  const commandId = first(metadata, "treaty-command-id");
  const own = sagaOf(commandId);
  if (own === undefined) throw malformed("treaty-command-id", "sagas/{saga}/steps/{step} of at most 512 bytes");
  const saga = first(metadata, "treaty-saga") || own;
  if (saga !== own) throw malformed("treaty-saga", "the saga in treaty-command-id");
  const direction = first(metadata, "treaty-direction");
  if (direction !== "action" && direction !== "compensation") {
    throw malformed("treaty-direction", '"action" or "compensation"');
  }
  const attempt = first(metadata, "treaty-attempt") || "1";
  if (!/^[0-9]{1,10}$/.test(attempt) || Number(attempt) === 0 || Number(attempt) >= 2 ** 31) {
    throw malformed("treaty-attempt", "a decimal number from 1");
  }
  const start = first(metadata, "treaty-start") || "0";
  if (!/^[0-9]{1,18}$/.test(start)) throw malformed("treaty-start", "decimal microseconds since 1970");
  const digest = first(metadata, "treaty-request-digest");
  if (!isDigest(digest)) throw malformed("treaty-request-digest", "64 hex digits in lower case");
  return {
    saga, commandId, direction, attempt: Number(attempt), ...parseEpoch(metadata), start: BigInt(start), digest,
  };
}

function first(metadata: Metadata, key: string): string {
  return String(metadata.get(key)[0] ?? "");
}

function malformed(key: string, want: string): StatusError {
  return because(status.INVALID_ARGUMENT, "METADATA_INVALID", `metadata ${key}: want ${want}`);
}
