// treaty.v1.ParticipantService: what an orchestrator may ask this participant. It is optional, and small.

import { status, type Metadata, type ServerUnaryCall } from "@grpc/grpc-js";
import { parseEpoch, type Command } from "./command.js";
import type { Database } from "./database.js";
import {
  closedBefore, isPurged, otherRequest, purged, sagaRange, stale, type Inbox, type Scope, type Verdict,
} from "./inbox.js";
import { decodeStatus, Refusal } from "./status.js";

interface Timestamp {
  seconds: string;
  nanos: number;
}

interface DescribeRequest {
  store_id: string;
  position: string;
  horizon: Timestamp | null;
}

interface ListCommandsRequest {
  sagas: string[];
  since: Timestamp | null;
  page_size: number;
  page_token: string;
}

interface CloseCommandRequest {
  command_id: string;
  method: string;
  request_digest: string;
  saga_start: Timestamp | null;
}

const maxPage = 1000;

/** Answers an orchestrator's questions. Every question first raises the scope's epoch. */
export class Participant {
  constructor(
    private readonly database: Database, private readonly inbox: Inbox,
    private readonly services: string[], private readonly keptMethods: string[],
    private readonly log: (message: string, fields: Record<string, unknown>) => void,
  ) {}

  describe = (call: ServerUnaryCall<DescribeRequest, unknown>): object => {
    const { scope, epoch, known } = this.hear(call.metadata);
    const told = call.request;
    this.inbox.transaction(() => {
      const before = known ?? { position: 0n, storeId: "", horizon: 0n };
      const storeId = told.store_id || before.storeId;
      if (before.storeId !== "" && storeId !== before.storeId) {
        this.log(
          "two orchestrators with different stores have the same name", { scope, storeId, other: before.storeId },
        );
      }
      this.inbox.putScope(scope, {
        epoch, storeId, position: max(before.position, BigInt(told.position)),
        horizon: max(before.horizon, micros(told.horizon)),
      });
    });
    // There is no contracts_digest. It is that of the descriptors as protoc serializes them. This service reads .proto
    // files at its start, and its loader's descriptors have other bytes, without the options. A digest of those would
    // differ from that of a participant in Go with the same contracts, which is worse than none.
    const keys = Object.keys(call.metadata.getMap()).filter((key) => key.startsWith("treaty-"));
    return {
      protocol_version: 1,
      features: [
        "PARTICIPANT_FEATURE_ANSWER_MARKS", "PARTICIPANT_FEATURE_LIST_COMMANDS", "PARTICIPANT_FEATURE_CLOSE_COMMAND",
      ],
      build: "acme-notification", services: this.services, kept_methods: this.keptMethods, received_keys: keys.sort(),
      heard: known === undefined ? null : {
        epoch: String(known.epoch), position: String(known.position), store_id: known.storeId,
        horizon: known.horizon === 0n ? null : timestamp(known.horizon),
      },
    };
  };

  listCommands = (call: ServerUnaryCall<ListCommandsRequest, unknown>): object => {
    const { scope } = this.hear(call.metadata);
    const { sagas, since, page_size, page_token } = call.request;
    if ((sagas.length === 0) === (since === null) || sagas.length > maxPage) {
      throw new Refusal(status.INVALID_ARGUMENT, `want either since or 1 to ${maxPage} sagas`);
    }
    const size = page_size > 0 && page_size <= maxPage ? page_size : maxPage;
    // The page token is the last row's sequence number.
    if (!/^[0-9]*$/.test(page_token)) {
      throw new Refusal(status.INVALID_ARGUMENT, "page_token: want one from this method");
    }
    const ranges = sagas.map(sagaRange);
    const selected = since === null ? ranges.map(() => "command_id BETWEEN ? AND ?").join(" OR ") : "executed_at >= ?";
    const rows = this.database.all(
      `SELECT sequence, command_id, direction, method, verdict, executed_at, saga_start, request_digest
       FROM treaty_inbox WHERE scope IN ('', ?) AND sequence > ? AND (${selected}) ORDER BY sequence LIMIT ?`,
      [scope, BigInt(page_token || "0"), ...(since === null ? ranges.flat() : [micros(since)]), size],
    ) as unknown as ListedRow[];
    return {
      commands: rows.map((row) => ({
        command_id: row.command_id, direction: `STEP_DIRECTION_${row.direction.toUpperCase()}`,
        method: row.method.replace(/^\//, ""), request_digest: row.request_digest,
        verdict: `COMMAND_VERDICT_${row.verdict.toUpperCase().replaceAll("-", "_")}`,
        saga_start: Number(row.saga_start) === 0 ? null : timestamp(BigInt(row.saga_start)),
        update_time: timestamp(BigInt(row.executed_at)),
      })),
      next_page_token: rows.length === size ? String(rows.at(-1)!.sequence) : "",
    };
  };

  closeCommand = (call: ServerUnaryCall<CloseCommandRequest, unknown>): object => {
    const { scope, epoch } = this.hear(call.metadata);
    const { command_id: commandId, method, request_digest: digest, saga_start } = call.request;
    const saga = /^(sagas\/[^/]+)\/steps\/[^/]+$/.exec(commandId)?.[1];
    if (saga === undefined) throw new Refusal(status.INVALID_ARGUMENT, "command_id: want sagas/{saga}/steps/{step}");
    if (!this.keptMethods.includes(method)) return { not_kept: {} };
    const command: Command = {
      saga, commandId, direction: "action", attempt: 0, epoch, scope, digest, start: micros(saga_start),
    };
    return this.inbox.transaction(() => {
      const known = this.inbox.look(command);
      const other = otherRequest(known, command, `/${method}`);
      if (other !== undefined) throw other;
      if (known.compensation !== undefined) return { compensated: {} };
      if (known.action === undefined) {
        if (isPurged(known, command)) throw purged(command);
        this.inbox.store(command, `/${method}`, "closed", { refusal: closedBefore(command).encoded, settled: true });
        return { closed: {} };
      }
      switch (known.action.verdict) {
        case "executed":
          return { executed: { reply: Buffer.from(known.action.reply) } };
        case "closed":
          return { closed: {} };
        default:
          return { refused: { failure: decodeStatus(known.action.reply) } };
      }
    });
  };

  /** Raises the caller's epoch, in a transaction of its own. Returns what was known of its scope before. */
  private hear(metadata: Metadata): { scope: string; epoch: bigint; known: Scope | undefined } {
    const { scope, epoch } = parseEpoch(metadata);
    if (scope === "") throw new Refusal(status.INVALID_ARGUMENT, "metadata treaty-scope: is missing");
    const known = this.inbox.transaction(() => this.inbox.raise(scope, epoch));
    if (known !== undefined && epoch < known.epoch) throw stale(`a call of ${scope}`, epoch, known.epoch);
    return { scope, epoch, known };
  }
}

interface ListedRow {
  sequence: number;
  command_id: string;
  direction: string;
  method: string;
  verdict: Verdict;
  executed_at: number | bigint;
  saga_start: number | bigint;
  request_digest: string;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/** Returns a time in microseconds since 1970, and 0 for none. */
function micros(time: Timestamp | null): bigint {
  return time === null ? 0n : BigInt(time.seconds) * 1_000_000n + BigInt(Math.floor(time.nanos / 1000));
}

function timestamp(micros: bigint): Timestamp {
  return { seconds: String(micros / 1_000_000n), nanos: Number(micros % 1_000_000n) * 1000 };
}
