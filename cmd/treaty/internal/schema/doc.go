// Package schema reads the types of payloads from an orchestrator and converts payloads to and from JSON.
//
// # Types
//
// A [Schema] asks the server reflection of an orchestrator or a participant for messages, methods, services and saga
// definitions, and keeps the answers. A type that the server doesn't offer is taken from this program when it is built
// in.
//
// # Payloads
//
// An [Encoder] writes messages as JSON, [Schema.Decode] reads them. An encoder never writes the value of a field marked
// debug_redact, nor the content of a payload whose type isn't known. [JournalTypes] finds the types of the payloads in
// journal records, which the journal stores without their types.
package schema
