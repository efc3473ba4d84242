// Commands that take long: a handler accepts one now, and it is completed later.

/** The shortest wait of a Pending, in seconds. */
export const minPendingSeconds = 1;

/** The longest wait of a Pending, in seconds. */
export const maxPendingSeconds = 24 * 60 * 60;

/**
 * What a handler returns to accept a command, which is completed later with Participant.complete or Participant.refuse.
 * The effect of the acceptance is committed. The contract must have complete_within.
 */
export class Pending {
  /** How long the orchestrator waits for a completion or a heartbeat before it sends the command again. */
  readonly seconds: number;

  /** The seconds are rounded up to whole ones, and limited to the range from minPendingSeconds to maxPendingSeconds. */
  constructor(seconds: number) {
    const whole = Number.isFinite(seconds) ? Math.ceil(seconds) : maxPendingSeconds;
    this.seconds = Math.min(Math.max(whole, minPendingSeconds), maxPendingSeconds);
  }
}

/** A command that was accepted, and is neither completed nor compensated yet. */
export interface PendingCommand {
  readonly commandId: string;
  readonly direction: "action" | "compensation";
  /** The method that was called, such as "acme.identity.v1.IdentityService/InspectPassport". */
  readonly method: string;
  /** The seconds of its Pending. */
  readonly seconds: number;
  /** When it was accepted. */
  readonly acceptTime: Date;
}

/** Why a command can't be completed in the way that was asked for. */
export type CompletionProblem = "compensated" | "completed" | "not-accepted";

const problems: Record<CompletionProblem, string> = {
  "compensated": "it was compensated meanwhile, so the work can be discarded",
  "completed": "it was already completed in another way",
  "not-accepted": "it was never accepted here",
};

/** A command that can't be completed or refused. Trying again won't help. */
export class CompletionError extends Error {
  override readonly name: string = "CompletionError";

  constructor(readonly problem: CompletionProblem, commandId: string, direction: string) {
    super(`completing ${commandId} (${direction}): ${problems[problem]}`);
  }
}
