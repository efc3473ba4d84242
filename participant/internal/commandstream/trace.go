package commandstream

import (
	"context"
	"net"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
)

// Tracing makes the server spans of commands. They have the names and attributes that otelgrpc gives the spans of unary
// calls.
type Tracing struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator

	// skips says that no span is recorded whose parent isn't sampled. The tracer then isn't asked.
	skips bool
}

// unsampled is a parent for a probe. A sampler that takes a share of the traces takes this one: it has the least id.
const unsampled = "00-01000000000000000000000000000000-0100000000000000-00"

// NewTracing returns a Tracing that makes spans with a tracer, below the parents that a propagator reads.
func NewTracing(tracer trace.Tracer, propagator propagation.TextMapPropagator) *Tracing {
	t := &Tracing{tracer: tracer, propagator: propagator}
	// The span is never ended, so it is never exported.
	_, span := tracer.Start(propagator.Extract(context.Background(), carrier{parent: unsampled}), "probe")
	t.skips = !span.IsRecording()
	return t
}

// carrier is the trace context of a command.
type carrier struct{ parent, state string }

// Get implements propagation.TextMapCarrier.
func (c carrier) Get(key string) string {
	switch key {
	case traceparentKey:
		return c.parent
	case tracestateKey:
		return c.state
	default:
		return ""
	}
}

// Set implements propagation.TextMapCarrier. It does nothing.
func (carrier) Set(string, string) {}

// Keys implements propagation.TextMapCarrier.
func (carrier) Keys() []string { return []string{traceparentKey, tracestateKey} }

// parentOf returns a context with the span context of a call's parent.
func (t *Tracing) parentOf(c *call) context.Context {
	return t.propagator.Extract(c.session.spanless, carrier{
		parent: c.streamed.GetTraceparent(), state: c.streamed.GetTracestate(),
	})
}

// start starts the span of a call, unless it wouldn't be recorded.
func (t *Tracing) start(c *call) {
	if t.skips && isUnsampled(c.streamed.GetTraceparent()) {
		return
	}
	_, span := t.tracer.Start(t.parentOf(c), c.method.Path[1:], c.method.start...)
	if span.IsRecording() {
		span.SetAttributes(c.session.address...)
	}
	c.span.Store(&span)
}

// isUnsampled returns whether a traceparent says that its trace isn't sampled.
func isUnsampled(traceparent string) bool {
	flags, err := strconv.ParseUint(traceparent[max(len(traceparent)-2, 0):], 16, 8)
	return len(traceparent) == len(unsampled) && traceparent[:3] == unsampled[:3] && err == nil && flags&1 == 0
}

// spanOf returns the span that a handler finds in its context, or nil.
func (t *Tracing) spanOf(c *call) any {
	if span := c.span.Load(); span != nil {
		return *span
	}
	span := trace.SpanFromContext(t.parentOf(c))
	if !c.span.CompareAndSwap(nil, &span) {
		return *c.span.Load()
	}
	return span
}

// end ends the span of a call.
func (*Tracing) end(c *call) {
	started := c.span.Load()
	if started == nil || !(*started).IsRecording() {
		return
	}
	span, failure := *started, c.answer.GetFailure()
	if isServerError(codes.Code(failure.GetCode())) {
		span.SetStatus(otelcodes.Error, failure.GetMessage())
	}
	span.SetAttributes(semconv.RPCResponseStatusCode(code.Code(failure.GetCode()).String()))
	span.End()
}

// startOptions returns the options for the spans of a method.
func startOptions(path string) []trace.SpanStartOption {
	return []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(methodAttributes(path)...),
	}
}

// addressOf returns the attributes of the address that a stream arrived at.
func addressOf(ctx context.Context) []attribute.KeyValue {
	p, ok := peer.FromContext(ctx)
	if !ok || p.LocalAddr == nil {
		return nil
	}
	host, port, err := net.SplitHostPort(p.LocalAddr.String())
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(p.LocalAddr.String())}
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(host)}
	}
	return []attribute.KeyValue{semconv.ServerAddress(host), semconv.ServerPort(number)}
}
