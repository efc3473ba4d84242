package telemetry

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

// The keys of W3C trace context in gRPC metadata.
const (
	TraceparentKey = "traceparent"
	TracestateKey  = "tracestate"
)

// traceparentLength is the length of the header of version 00.
const traceparentLength = 55

// Extract returns ctx with the span context that the caller of a gRPC method sent, for a server without
// OpenTelemetry's own handler. It returns ctx unchanged if ctx has a span context already, or if the caller sent none
// or a malformed one.
func Extract(ctx context.Context) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() || len(metadata.ValueFromIncomingContext(ctx, TraceparentKey)) == 0 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, incoming{ctx})
}

// unsampledCaller returns the span context that the caller of a gRPC method sent, if the caller's trace isn't sampled
// and ctx has no span context. It is Extract for a call that must cost little.
func unsampledCaller(ctx context.Context) (caller trace.SpanContext, ok bool) {
	if trace.SpanContextFromContext(ctx).IsValid() {
		return caller, false
	}
	values := metadata.ValueFromIncomingContext(ctx, TraceparentKey)
	if len(values) == 0 {
		return caller, false
	}
	header := values[0] // 00-TRACE-SPAN-00
	if len(header) != traceparentLength || header[:3] != "00-" || header[35] != '-' || header[52:] != "-00" {
		return caller, false
	}
	traceID, err := trace.TraceIDFromHex(header[3:35])
	if err != nil {
		return caller, false
	}
	spanID, err := trace.SpanIDFromHex(header[36:52])
	if err != nil {
		return caller, false
	}
	var state trace.TraceState
	if values = metadata.ValueFromIncomingContext(ctx, TracestateKey); len(values) > 0 {
		state = parseTracestate(values[0])
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, TraceState: state, Remote: true,
	}), true
}

// parseTracestate parses a tracestate header. W3C says to drop one that can't be parsed.
func parseTracestate(header string) trace.TraceState {
	if header == "" {
		return trace.TraceState{}
	}
	state, err := trace.ParseTraceState(header)
	if err != nil {
		return trace.TraceState{}
	}
	return state
}

// incoming reads the metadata of the call that is handled.
type incoming struct{ ctx context.Context }

func (i incoming) Get(key string) string {
	if values := metadata.ValueFromIncomingContext(i.ctx, key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func (incoming) Set(string, string) {}

func (incoming) Keys() []string { return []string{TraceparentKey, TracestateKey} }

// traceparent returns the W3C header, version 00. It takes one allocation.
func traceparent(traceID trace.TraceID, spanID trace.SpanID, flags trace.TraceFlags) string {
	var b [traceparentLength]byte
	copy(b[:], "00-")
	hex.Encode(b[3:35], traceID[:])
	b[35] = '-'
	hex.Encode(b[36:52], spanID[:])
	b[52] = '-'
	hex.Encode(b[53:55], []byte{byte(flags)})
	return string(b[:])
}
