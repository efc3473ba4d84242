// Package commandstream is the orchestrator's end of treaty.v1.ParticipantService/StreamCommands: it carries commands
// to a participant, and their answers back, in batches on one stream.
//
// A [Stream] is one such stream. [Stream.Do] sends one command and waits for its answer; what is called at about the
// same time travels in one message. The package makes no unary calls and opens no stream again: its caller decides what
// becomes of a command that wasn't sent.
//
// A command that wasn't handed to gRPC was certainly not executed. [Result.Sent] says so. Any other command without an
// answer may have been executed.
package commandstream
