// Tells an orchestrator what came of the commands that were accepted.

import { Client, status, type ChannelCredentials, type ServiceError } from "@grpc/grpc-js";
import type { CommandKey, Direction } from "./command.js";
import { loadService } from "./protos.js";
import { decodeStatus } from "./status.js";

/** How an accepted command has ended. Participant.complete and Participant.refuse return it, after they stored it. */
export type Completion = CommandKey & (
  | {
    /** The serialized reply. */
    readonly reply: Uint8Array;
    /**
     * The full name of the reply's message, such as "acme.identity.v1.PassportInspected". It is known if the service's
     * definition comes from @grpc/proto-loader. Otherwise add it.
     */
    readonly replyType?: string;
  }
  | {
    /** The serialized google.rpc.Status. */
    readonly refusal: Uint8Array;
    /** Whether the inbox answers every other attempt with the refusal. */
    readonly settled: boolean;
  }
);

/**
 * The saga no longer waits for the command, for example because complete_within has passed. Trying again won't help.
 * Leave the effect as it is: if a compensation is due, it arrives.
 */
export class StepEndedError extends Error {
  override readonly name: string = "StepEndedError";
}

/** How long a call to the orchestrator may take, in milliseconds. */
const timeoutMs = 10_000;

/**
 * Calls the orchestrator whose commands a participant has accepted. It stores nothing and doesn't retry: if a
 * completion doesn't get through, the orchestrator sends the command again and receives the stored answer.
 */
export class Completer {
  private readonly client: Client;
  private readonly service = loadService("saga_service.proto", "SagaService");

  /** The address is that of the orchestrator, host:port. No command contains it. */
  constructor(address: string, credentials: ChannelCredentials) {
    this.client = new Client(address, credentials);
  }

  /**
   * Sends a completion. It returns after the orchestrator has stored it durably, and may be called again. Throws a
   * StepEndedError, or an error of the call.
   */
  async send(completion: Completion): Promise<void> {
    const { commandId, direction } = completion;
    if ("refusal" in completion) {
      const { refusal, settled } = completion;
      await this.call("CompleteStep", completion, { refusal: decodeStatus(refusal), settled });
      return;
    }
    if (completion.replyType === undefined) {
      throw new Error(`completing ${commandId} (${direction}): set replyType to the full name of the reply's message`);
    }
    const reply = { type_url: `type.googleapis.com/${completion.replyType}`, value: completion.reply };
    await this.call("CompleteStep", completion, { reply });
  }

  /**
   * Says that the participant still works on a command: the orchestrator starts to wait again, for the seconds of its
   * Pending. Throws a StepEndedError if the work should stop, or an error of the call, which can be ignored until the
   * next heartbeat.
   */
  async heartbeat(key: CommandKey): Promise<void> {
    await this.call("HeartbeatStep", key, {});
  }

  /** Closes the connection. */
  close(): void {
    this.client.close();
  }

  private call(name: string, { commandId, direction }: CommandKey, more: object): Promise<void> {
    const method = this.service[name];
    if (method === undefined) throw new Error(`treaty.v1.SagaService has no method ${name}`);
    const request = { name: commandId, direction: directionOf(direction), ...more };
    return new Promise((resolve, reject) => {
      this.client.makeUnaryRequest(
        method.path, method.requestSerialize, method.responseDeserialize, request,
        { deadline: Date.now() + timeoutMs }, (error: ServiceError | null) => {
          if (error === null) return resolve();
          const text = `${name} of ${commandId} (${direction}): ${error.message}`;
          const ended = error.code === status.FAILED_PRECONDITION || error.code === status.NOT_FOUND;
          reject(ended ? new StepEndedError(text, { cause: error }) : new Error(text, { cause: error }));
        },
      );
    });
  }
}

function directionOf(direction: Direction): string {
  return direction === "action" ? "STEP_DIRECTION_ACTION" : "STEP_DIRECTION_COMPENSATION";
}
