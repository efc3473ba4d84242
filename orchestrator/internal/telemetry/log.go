package telemetry

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// The attributes that the log handler adds.
const (
	LogKeyTraceID = "trace_id"
	LogKeySpanID  = "span_id"
	LogKeySaga    = "saga"
)

type sagaKey struct{}

// WithSaga returns a context whose log lines name the saga and, unless ctx holds a span context already, the anchor's trace
// and span. Anchor may be nil.
func WithSaga(ctx context.Context, saga string, anchor *treatyv1.TraceAnchor) context.Context {
	ctx = context.WithValue(ctx, sagaKey{}, saga)
	if whole(anchor) && !trace.SpanContextFromContext(ctx).IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, spanContext(anchor, spanID(anchor.GetSpanId())))
	}
	return ctx
}

// NewLogHandler returns a handler that adds trace_id, span_id and saga to a line where the line's context knows them.
func NewLogHandler(inner slog.Handler) slog.Handler { return logHandler{inner} }

type logHandler struct{ slog.Handler }

func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		record.AddAttrs(slog.String(LogKeyTraceID, sc.TraceID().String()), slog.String(LogKeySpanID, sc.SpanID().String()))
	}
	if saga, ok := ctx.Value(sagaKey{}).(string); ok {
		record.AddAttrs(slog.String(LogKeySaga, saga))
	}
	return h.Handler.Handle(ctx, record)
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return logHandler{h.Handler.WithAttrs(attrs)}
}

func (h logHandler) WithGroup(name string) slog.Handler {
	return logHandler{h.Handler.WithGroup(name)}
}
