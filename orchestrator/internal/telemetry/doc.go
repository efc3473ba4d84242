// Package telemetry records the orchestrator's spans and metrics with OpenTelemetry. It is the one place that names
// spans, attributes and metrics.
//
// # Traces
//
// A saga has one trace. Each of its spans is exported as soon as it ends, so that the trace is complete while the
// saga runs and after a crash:
//
//   - The anchor is exported right after the saga's start is committed. The journal has it in the saga's start, as a
//     [treatyv1.TraceAnchor]. It is the parent of the spans of the steps.
//   - Each step has a span, which is exported right after the intent to send its command is committed. Its compensation
//     has another one, which links to it. It is the parent of the participant's spans.
//   - Each attempt has a span below that of its step.
//   - When the saga has ended, a last span covers its duration.
//
// Span ids are derived: of steps from the saga, path and direction, and of attempts also from the epoch and the number.
// All spans but those of attempts follow from the journal. So they can be exported again after a crash, and are the
// same each time.
//
// # Configuration
//
// Telemetry is off unless the OTEL_* environment variables turn it on; see [New]. A nil [*Telemetry] is off, too.
// In that case, and for a saga that isn't sampled, it costs next to nothing.
//
// # What it never does
//
// It never sees a payload, and decides nothing about a saga.
package telemetry
