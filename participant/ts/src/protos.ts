// The contracts of treaty.v1, which are part of the package.

import type { ServiceDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { fileURLToPath } from "node:url";

/**
 * The folder with the contracts of treaty.v1, for the include directories of a contract that imports
 * "treaty/v1/options.proto".
 */
export const protoDirectory: string = fileURLToPath(new URL("../proto", import.meta.url));

/** Loads a service of treaty.v1. */
export function loadService(file: string, service: string): ServiceDefinition {
  const definition = loadSync(`treaty/v1/${file}`, {
    includeDirs: [protoDirectory], keepCase: true, defaults: true, longs: String, enums: String, oneofs: true,
  });
  return definition[`treaty.v1.${service}`] as ServiceDefinition;
}

/** A google.protobuf.Timestamp as loadService's messages have it. */
export interface Timestamp {
  readonly seconds: string;
  readonly nanos: number;
}

/** Returns a time in microseconds since 1970, and 0 for none. */
export function micros(time: Timestamp | null): bigint {
  return time === null ? 0n : BigInt(time.seconds) * 1_000_000n + BigInt(Math.floor(time.nanos / 1000));
}

/** Returns a time, and none for 0. */
export function timestamp(micros: bigint): Timestamp | null {
  if (micros === 0n) return null;
  return { seconds: String(micros / 1_000_000n), nanos: Number(micros % 1_000_000n) * 1000 };
}
