// Package participant turns a gRPC service written in Go into a participant of sagas.
//
// A participant handles commands: ordinary unary gRPC calls that an orchestrator makes for a saga. What travels over
// the network is plain gRPC, so a participant in another language needs no library, and this package is a convenience.
//
// # The protocol
//
// An interceptor, made by [UnaryServerInterceptor], turns the handlers of any grpc.Server into correct participants. It
// reads the metadata of a call into a [Command], which the handler finds with [FromContext], recovers panics, and keeps
// the text of internal errors from the caller. What a handler returns decides the outcome:
//
//   - a reply: the command is done;
//   - [Refuse]: the command was not executed, and retrying won't help;
//   - [Pending]: the command was accepted and is completed later, with a [Completer];
//   - any other error: see [IsRefusal] for what each status code means.
//
// [LogHandler] adds the command to the records that a handler logs.
//
// # The server
//
// [NewServer] returns a server with that interceptor and sensible settings: health, reflection, limits, TLS with
// reload, tracing and a graceful stop:
//
//	server, err := participant.NewServer(participant.Options{Name: "customer", Listen: "127.0.0.1:7101"})
//	if err != nil {
//		return err
//	}
//	customerv1.RegisterCustomerServiceServer(server, service)
//	return server.Serve(ctx) // until ctx ends
//
// A team that has its own grpc.Server doesn't need it.
//
// # Exactly-once effects
//
// Commands can arrive twice, late, or after their compensation. Package inbox makes a handler's effect exactly-once
// inside the service's own database transaction. Package participanttest has what the tests of a participant need.
//
// # What it never does
//
// The package calls the orchestrator only through a [Completer]. It reads no flags or environment variables, handles no
// signals and sets up no telemetry: that is up to the process. Spans go to OpenTelemetry's global tracer provider, if
// the process has set one before it calls NewServer.
package participant
