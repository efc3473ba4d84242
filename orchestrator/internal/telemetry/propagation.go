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

// Extract returns ctx with the span context that the caller of a gRPC method sent, for a server without
// OpenTelemetry's own handler. It returns ctx unchanged if ctx has a span context already, or if the caller sent none
// or a malformed one.
func Extract(ctx context.Context) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() || len(metadata.ValueFromIncomingContext(ctx, TraceparentKey)) == 0 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, incoming{ctx})
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
	var b [55]byte
	copy(b[:], "00-")
	hex.Encode(b[3:35], traceID[:])
	b[35] = '-'
	hex.Encode(b[36:52], spanID[:])
	b[52] = '-'
	hex.Encode(b[53:55], []byte{byte(flags)})
	return string(b[:])
}
