package participant

import (
	"context"
	"maps"
	"slices"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc/filters"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// tracerName is the name of the tracer and of the meter of this package.
const tracerName = "github.com/treatyhq/treaty/participant"

// tracing reports whether the global tracer provider records spans.
func tracing() bool { return probe(trace.SpanContext{}).SpanContext().IsValid() }

// newStatsHandler returns the handler that traces calls, or nil if the process records no spans. It costs more than the
// call that it traces, so calls that aren't sampled go around it, unless it has something to record for them, too.
func newStatsHandler() stats.Handler {
	if !tracing() {
		return nil
	}
	// A stream of commands lasts for long, and each of its commands has a span.
	handler := otelgrpc.NewServerHandler(otelgrpc.WithFilter(filters.None(filters.HealthCheck(),
		filters.FullMethodName(treatyv1.ParticipantService_StreamCommands_FullMethodName))))
	// A sampler that takes a share of the traces takes this one: it has the least id.
	unsampled := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, Remote: true,
	})
	if probe(unsampled).IsRecording() || recordsMetrics() {
		return handler
	}
	return sampledOnly{Handler: handler, propagator: otel.GetTextMapPropagator()}
}

// probe returns a span of the global tracer provider. It is never ended, so it is never exported.
func probe(parent trace.SpanContext) trace.Span {
	_, span := otel.Tracer(tracerName).Start(trace.ContextWithSpanContext(context.Background(), parent), "probe")
	return span
}

// recordsMetrics reports whether the global meter provider records metrics.
func recordsMetrics() bool {
	// It never has a value, so it is never exported.
	probe, err := otel.Meter(tracerName).Float64Histogram("probe")
	return err != nil || probe.Enabled(context.Background())
}

// sampledOnly is a stats handler that sees no call whose caller says that its trace isn't sampled.
type sampledOnly struct {
	stats.Handler

	propagator propagation.TextMapPropagator
}

// passedKey is in the context of a call that the handler doesn't see.
type passedKey struct{}

// TagRPC returns the context of a call. It has the caller's span in any case, for logs and for further calls.
func (s sampledOnly) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if !saysUnsampled(ctx) {
		return s.Handler.TagRPC(ctx, info)
	}
	called := s.propagator.Extract(ctx, carrier{ctx})
	// The propagator may know better: it need not be that of W3C's header.
	if span := trace.SpanContextFromContext(called); !span.IsValid() || span.IsSampled() {
		return s.Handler.TagRPC(ctx, info)
	}
	return context.WithValue(called, passedKey{}, true)
}

// HandleRPC processes what happens in a call.
func (s sampledOnly) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if ctx.Value(passedKey{}) == nil {
		s.Handler.HandleRPC(ctx, event)
	}
}

// saysUnsampled returns whether a call has W3C's header of a trace that isn't sampled.
func saysUnsampled(ctx context.Context) bool {
	values := metadata.ValueFromIncomingContext(ctx, "traceparent")
	if len(values) == 0 || len(values[0]) != 55 {
		return false
	}
	switch values[0][54] { // the last digit of the flags
	case '0', '2', '4', '6', '8', 'a', 'c', 'e':
		return true
	}
	return false
}

// carrier lets a propagator read the metadata of a call.
type carrier struct{ call context.Context }

// Get returns the first value of a key.
func (c carrier) Get(key string) string {
	if values := metadata.ValueFromIncomingContext(c.call, key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Set does nothing.
func (carrier) Set(string, string) {}

// Keys returns the keys.
func (c carrier) Keys() []string {
	md, _ := metadata.FromIncomingContext(c.call)
	return slices.Collect(maps.Keys(md))
}
