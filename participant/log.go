package participant

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"
)

// LogHandler wraps a handler so that every record logged with a call's context has the attributes trace_id, saga,
// command_id, direction and attempt. It adds nothing from the request. Wrapping a handler twice has no further effect.
func LogHandler(h slog.Handler) slog.Handler {
	if wrapped, ok := h.(logHandler); ok {
		return wrapped
	}
	return logHandler{h}
}

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	r = r.Clone()
	r.AddAttrs(logAttrs(ctx)...)
	return h.Handler.Handle(ctx, r)
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

func (h logHandler) WithGroup(name string) slog.Handler { return logHandler{h.Handler.WithGroup(name)} }

func logAttrs(ctx context.Context) []slog.Attr {
	var attrs []slog.Attr
	if id := traceID(ctx); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	if c, ok := FromContext(ctx); ok {
		attrs = append(attrs, slog.String("saga", c.Saga), slog.String("command_id", c.CommandID),
			slog.String("direction", string(c.Direction)), slog.Int("attempt", c.Attempt))
	}
	return attrs
}

// traceID returns the trace that a call belongs to, even if this process records no spans.
func traceID(ctx context.Context) string {
	span := trace.SpanContextFromContext(ctx)
	if !span.IsValid() {
		md, ok := metadata.FromIncomingContext(ctx)
		if !ok {
			return ""
		}
		carrier := propagation.MapCarrier{}
		if values := md.Get("traceparent"); len(values) > 0 {
			carrier.Set("traceparent", values[0])
		}
		span = trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
	}
	if !span.IsValid() {
		return ""
	}
	return span.TraceID().String()
}
