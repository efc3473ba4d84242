// Package participant is what a service written in Go imports to take part in sagas: a gRPC server that is set up well
// ([NewServer]), the metadata that comes with every command ([FromContext]), refusals with a typed reason ([Refuse]), commands that take long ([Pending],
// [Completer]) and telemetry ([Telemetry]). The package inbox, next to it, makes a handler's effect exactly-once.
//
// A participant needs none of it: what goes over the wire is plain gRPC. The package calls the orchestrator only
// to complete what was accepted.
package participant
