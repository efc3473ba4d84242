/**
 * Participants of Treaty's sagas: ordinary gRPC servers whose commands take effect once.
 *
 * @packageDocumentation
 */

export type { Command, CommandKey, Direction } from "./command.js";
export { Completer, StepEndedError, type Completion } from "./completer.js";
export type { Method, Service } from "./contract.js";
export { Database, databaseFailed, type Changes, type Row, type SqlValue } from "./database.js";
export { Inbox, type InboxOptions, type StoredVerdict, type Verdict } from "./inbox.js";
export type { Level, Log } from "./log.js";
export {
  Participant,
  type CommandHandler, type Handlers, type ListenOptions, type ParticipantOptions, type ReadCall, type ReadHandler,
  type TlsOptions, type Tx,
} from "./participant.js";
export {
  CompletionError, maxPendingSeconds, minPendingSeconds, Pending, type CompletionProblem, type PendingCommand,
} from "./pending.js";
export { protoDirectory } from "./protos.js";
export { isRefusal, StatusError, type Detail } from "./status.js";
export { tracing } from "./telemetry.js";
export { anyCaller } from "./trust.js";
