// Package telemetry records the orchestrator's spans and metrics with OpenTelemetry. It is the one place that names
// spans, attributes and metrics.
//
// # Traces
//
// A saga has one trace. Each of its spans is exported as soon as it ends, so that the trace is complete while the
// saga runs and after a crash:
//
//   - The anchor is exported right after the saga's start is committed. It is the parent of the others. The journal has
//     it in the saga's start, as a [treatyv1.TraceAnchor].
//   - Each attempt has a span. The span of a compensation links to that of the action.
//   - When the saga has ended, a last span covers its duration.
//
// Span ids are derived from the saga, step, direction and attempt, so a span that is exported again after a crash has
// the same id.
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
