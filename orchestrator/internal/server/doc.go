// Package server is the orchestrator's gRPC API: every saga service served as itself, treaty.v1.SagaService, health,
// reflection and channelz. It checks what comes in, asks the engine, and is the only place where an internal error
// becomes a gRPC status.
//
// It never changes what is sent or stored. What it shows of a saga is always redacted; only who calls a saga's own
// method gets the saga's own reply.
package server
