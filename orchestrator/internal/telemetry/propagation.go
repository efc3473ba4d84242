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
	MetadataTraceparent = "traceparent"
	MetadataTracestate  = "tracestate"
)

// Extract returns ctx with the span context that the caller of a gRPC method sent along, for a server without
// OpenTelemetry's own handler. It returns ctx as it is when it holds a span context already, or the caller sent none or a malformed one.
func Extract(ctx context.Context) context.Context {
	if trace.SpanContextFromContext(ctx).IsValid() || len(metadata.ValueFromIncomingContext(ctx, MetadataTraceparent)) == 0 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, incoming{ctx})
}

// incoming reads the metadata of the call being served.
type incoming struct{ ctx context.Context }

func (i incoming) Get(key string) string {
	if values := metadata.ValueFromIncomingContext(i.ctx, key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func (incoming) Set(string, string) {}

func (incoming) Keys() []string { return []string{MetadataTraceparent, MetadataTracestate} }

// traceparent renders the W3C header, version 00, in one allocation.
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
