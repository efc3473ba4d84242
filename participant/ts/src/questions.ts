// treaty.v1.ParticipantService: what an orchestrator may ask this participant.

import { status, type Metadata, type ServerUnaryCall } from "@grpc/grpc-js";
import { isDigest, parseEpoch, sagaOf, type Command } from "./command.js";
import type { Closing, Inbox, ListedCommand } from "./inbox.js";
import type { Log } from "./log.js";
import { micros, timestamp, type Timestamp } from "./protos.js";
import { decodeStatus, StatusError } from "./status.js";

interface DescribeRequest {
  readonly store_id: string;
  readonly position: string;
  readonly horizon: Timestamp | null;
}

interface ListCommandsRequest {
  readonly sagas: readonly string[];
  readonly since: Timestamp | null;
  readonly page_size: number;
  readonly page_token: string;
}

interface CloseCommandRequest {
  readonly command_id: string;
  readonly method: string;
  readonly request_digest: string;
  readonly saga_start: Timestamp | null;
}

/** A call of a method of ParticipantService. */
export type Question<Request> = Pick<ServerUnaryCall<Request, unknown>, "metadata" | "request">;

/** What a participant is. */
export interface Served {
  readonly build: string;
  /** The full names of the services, sorted. */
  services(): string[];
  /** The SHA-256 of the services' descriptors, in hex, or empty if they aren't known. */
  contractsDigest(): string;
  /** The methods whose effects the inbox keeps, such as "stock.v1.StockService/ReserveStock", sorted. */
  keptMethods(): string[];
}

const maxPage = 1000;

/** Answers an orchestrator's questions. Every question first raises the scope's epoch. */
export class Questions {
  constructor(private readonly inbox: Inbox, private readonly served: Served, private readonly log: Log) {}

  /** Says what the participant is, and what it had heard of the caller's scope before. */
  describe = ({ metadata, request }: Question<DescribeRequest>): object => {
    const { scope, epoch } = callerOf(metadata);
    const known = this.inbox.hear(scope, epoch, {
      storeId: request.store_id, position: BigInt(request.position), horizon: micros(request.horizon),
    });
    const other = known?.storeId ?? "";
    if (other !== "" && request.store_id !== "" && other !== request.store_id) {
      this.log("ERROR", "two orchestrators with different stores have the same name: give each a name of its own", {
        scope, store: request.store_id, other,
      });
    }
    return {
      protocol_version: 1,
      features: [
        "PARTICIPANT_FEATURE_ANSWER_MARKS", "PARTICIPANT_FEATURE_LIST_COMMANDS", "PARTICIPANT_FEATURE_CLOSE_COMMAND",
      ],
      build: this.served.build, services: this.served.services(), kept_methods: this.served.keptMethods(),
      contracts_digest: this.served.contractsDigest(),
      received_keys: Object.keys(metadata.getMap()).filter((key) => key.startsWith("treaty-")).sort(),
      heard: known === undefined ? null : {
        epoch: String(known.epoch), position: String(known.position), store_id: known.storeId,
        horizon: timestamp(known.horizon),
      },
    };
  };

  /** Lists the inbox's rows of the caller's scope. */
  listCommands = ({ metadata, request }: Question<ListCommandsRequest>): object => {
    const { scope, epoch } = callerOf(metadata);
    const { sagas, since, page_size, page_token } = request;
    if ((sagas.length === 0) === (since === null)) throw invalid("want either sagas or since");
    if (sagas.length > maxPage) throw invalid(`sagas: ${sagas.length} are too many; at most ${maxPage} are allowed`);
    if (!sagas.every((saga) => /^sagas\/[^/]+$/.test(saga))) throw invalid("sagas: want names like sagas/{saga}");
    // The page token is the last row's sequence number.
    if (!/^[0-9]{0,18}$/.test(page_token)) {
      throw invalid("page_token: isn't one that this participant has returned");
    }
    this.inbox.hear(scope, epoch);
    const size = page_size > 0 && page_size <= maxPage ? page_size : maxPage;
    const selected = since === null ? { sagas } : { since: micros(since) };
    const rows = this.inbox.list(scope, selected, BigInt(page_token || "0"), size);
    const last = rows.at(-1);
    return {
      commands: rows.map(listed),
      next_page_token: rows.length === size && last !== undefined ? String(last.sequence) : "",
    };
  };

  /** Says what became of an action, and makes sure that it is never executed if nothing did. */
  closeCommand = ({ metadata, request }: Question<CloseCommandRequest>): object => {
    const { scope, epoch } = callerOf(metadata);
    const { command_id: commandId, method, request_digest: digest } = request;
    const saga = sagaOf(commandId);
    if (saga === undefined) throw invalid("command_id: want sagas/{saga}/steps/{step}");
    if (!isDigest(digest)) throw invalid("request_digest: want 64 hex digits in lower case");
    this.inbox.hear(scope, epoch);
    if (!this.served.keptMethods().includes(method)) return { not_kept: {} };
    const command: Command = {
      saga, commandId, direction: "action", attempt: 0, epoch, scope, digest, start: micros(request.saga_start),
    };
    return closing(this.inbox.close(command, `/${method}`));
  };
}

function callerOf(metadata: Metadata): { scope: string; epoch: bigint } {
  const caller = parseEpoch(metadata);
  if (caller.scope === "") throw invalid("metadata treaty-scope: is missing; want {name}/{shard}");
  return caller;
}

function invalid(message: string): StatusError {
  return new StatusError(status.INVALID_ARGUMENT, message);
}

function listed(row: ListedCommand): object {
  return {
    command_id: row.commandId, direction: `STEP_DIRECTION_${row.direction.toUpperCase()}`,
    method: row.method.replace(/^\//, ""), request_digest: row.digest,
    verdict: `COMMAND_VERDICT_${row.verdict.toUpperCase().replaceAll("-", "_")}`,
    saga_start: timestamp(row.start), update_time: timestamp(row.updated),
  };
}

function closing(closed: Closing): object {
  switch (closed.outcome) {
    case "executed":
      return { executed: { reply: Buffer.from(closed.reply) } };
    case "refused":
      return { refused: { failure: decodeStatus(closed.refusal) } };
    default:
      return { [closed.outcome]: {} };
  }
}
