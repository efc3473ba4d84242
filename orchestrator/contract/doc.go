// Package contract reads the treaty.v1 annotations of protobuf services and messages, and checks the rules that every
// contract keeps.
//
// It is the only place that decides what a contract means. The generator, the orchestrator and the reference page
// (docs/contract-reference.md) all use it. It reads descriptors and nothing else: it makes no calls, opens no files and
// keeps no state.
//
// # Checking
//
// [Check] returns the violations of the contract rules in a set of files. Each [Violation] has the id of the broken
// rule, its position in the .proto file, and a message that says what to write instead.
//
// [CheckChanges] compares contracts with an earlier version, and returns the changes that break open sagas.
//
// # Reading
//
// [CommandOf] and [SagaDefinitionOf] read one method, [EventTypeOf] one message. They fill in all defaults. [Load]
// checks and reads a set of files, usually all that a program links, into a [Catalog].
//
// # Calling
//
// A [CallConfig] says how to call a method: its timeout, its retries, and what gRPC codes mean ([OutcomeOf]).
// [CompensationRequest] builds the request of a compensation from the journal, without descriptors.
//
// # Redacting
//
// [Redact] removes the values of fields with debug_redact from a message before it is shown.
package contract
