// Package server is the orchestrator's gRPC API.
//
// # Services
//
// [New] returns a [Server] with these services: every saga service whose definitions have code, treaty.v1.SagaService,
// treaty.v1.EventService, treaty.v1.ParticipantService, health, reflection and channelz. A call to a saga's own method
// starts the saga and waits for its end. Requests and replies of sagas pass through as bytes; only what the API needs
// of them is parsed.
//
// # Parents
//
// Other orchestrators start sagas as steps of theirs. To them, this one is a participant: it marks its answers, refuses
// the epochs that it knows as replaced, and says what became of their commands.
//
// # Errors
//
// Handlers return plain errors. One interceptor, for unary calls and streams, turns each into a status with a
// google.rpc.ErrorInfo. An error that it doesn't know is logged under an id, and the caller receives only the id.
//
// # Lifecycle
//
// Serve accepts connections. SetReady sets the health to SERVING. Drain lets calls in flight end, and Close ends them.
//
// # What it never does
//
// The server decides nothing about a saga and stores nothing: the [Engine] does. It never returns or logs what a
// contract marks with debug_redact. There is one exception: the caller of a saga's own method receives the whole reply.
package server
