// Package wire holds what orchestrators, participants and clients must agree on and what protobuf doesn't say: the keys
// of the gRPC metadata, the format of resource names and command ids, and the reasons of errors.
//
// Every other package uses these constants and functions. None writes a key, a prefix or a reason as a literal.
//
// # Names
//
// A saga is named sagas/{saga}, a step sagas/{saga}/steps/{step}, and a record sagas/{saga}/records/{record}. A command
// id is the name of its step.
//
// # Metadata
//
// A command carries [SagaKey], [CommandIDKey], [DirectionKey], [AttemptKey], [EpochKey], [ScopeKey], [StartKey] and
// [RequestDigestKey]. A participant says with the trailer [AnswerKey] what its answer covers. One that accepts a
// command and completes it later answers with the trailer [PendingKey]. A client that starts a saga may send
// [RequestIDKey] and receives [SagaKey] in the header.
//
// # Errors
//
// Every error of the orchestrator carries a google.rpc.ErrorInfo with the domain [ErrorDomain] and a reason, which is a
// treatyv1.ErrorReason. [Reason] and [ParseReason] convert between the two.
package wire
