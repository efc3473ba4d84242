package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// StartAnchor returns what the spans of a new saga hang from, to be journaled with the saga's start. It emits nothing:
// the start isn't durable yet.
//
// The caller's trace is continued where ctx holds a span context. Else the trace starts here, and the configured sampler
// decides whether the saga is traced; its decision holds for all of the saga's life and for its participants.
//
// While tracing is off, the result is the caller's own span context, so that participants hang from it, or nil when there is none.
func (t *Telemetry) StartAnchor(ctx context.Context, saga, definition string) *treatyv1.TraceAnchor {
	caller := trace.SpanContextFromContext(ctx)
	if !t.Tracing() {
		if !caller.IsValid() {
			return nil
		}
		return newAnchor(caller.TraceID(), caller.SpanID(), trace.SpanID{}, caller.TraceFlags(), caller.TraceState())
	}
	_, span := t.decide.Start(ctx, definition, trace.WithAttributes(sagaAttributes(saga, definition)...))
	sc := span.SpanContext()
	id := deriveSpanID(idAnchor, saga, "", "", 0)
	return newAnchor(sc.TraceID(), id, caller.SpanID(), sc.TraceFlags(), sc.TraceState())
}

// newAnchor makes an anchor in one allocation, and one more where there is a tracestate.
func newAnchor(traceID trace.TraceID, spanID, parent trace.SpanID, flags trace.TraceFlags, state trace.TraceState) *treatyv1.TraceAnchor {
	a := &struct {
		treatyv1.TraceAnchor
		trace  trace.TraceID
		span   trace.SpanID
		parent trace.SpanID
	}{trace: traceID, span: spanID, parent: parent}
	a.TraceId = a.trace[:]
	a.SpanId = a.span[:]
	if parent.IsValid() {
		a.ParentSpanId = a.parent[:]
	}
	a.Flags = uint32(flags)
	a.Tracestate = state.String()
	return &a.TraceAnchor
}

// EmitAnchor exports the anchor's own span, named after the definition. Call it right after the commit of the saga's
// start, and again when the saga is recovered: the span is the same each time. It does nothing for a saga that isn't traced.
func (t *Telemetry) EmitAnchor(anchor *treatyv1.TraceAnchor, saga, definition string, start time.Time) {
	if !t.exports(anchor) {
		return
	}
	w := &wanted{Context: context.Background(), trace: traceID(anchor), span: spanID(anchor.GetSpanId()), state: traceState(anchor)}
	if parent := spanID(anchor.GetParentSpanId()); parent.IsValid() {
		w.Context = trace.ContextWithRemoteSpanContext(w.Context, spanContext(anchor, parent))
	}
	_, span := t.emit.Start(w, definition, trace.WithTimestamp(start), trace.WithAttributes(sagaAttributes(saga, definition)...))
	span.End(trace.WithTimestamp(start.Add(time.Microsecond))) // a span without a duration makes Jaeger warn
}

// End is how a saga ended.
type End struct {
	// Saga and Definition say which saga.
	Saga, Definition string

	// Start is when it was accepted, Time when it ended.
	Start, Time time.Time

	// State is its final state.
	State treatyv1.SagaState

	// Code is the gRPC code of the error that it ended with; 0 when it succeeded.
	Code int32
}

// EmitEnd exports the span that covers the saga's duration. Call it once, right after the commit of the saga's last turn; never on a
// replay. It does nothing for a saga that isn't traced.
func (t *Telemetry) EmitEnd(anchor *treatyv1.TraceAnchor, end End) {
	if !t.exports(anchor) {
		return
	}
	name := SpanSagaSucceeded
	if end.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		name = SpanSagaCompensated
	}
	w := &wanted{
		Context: trace.ContextWithRemoteSpanContext(context.Background(), spanContext(anchor, spanID(anchor.GetSpanId()))),
		trace:   traceID(anchor),
		span:    deriveSpanID(idEnd, end.Saga, "", "", 0),
		state:   traceState(anchor),
	}
	attributes := append(sagaAttributes(end.Saga, end.Definition), KeyState.String(stateName(end.State)))
	_, span := t.emit.Start(w, name, trace.WithTimestamp(end.Start), trace.WithAttributes(attributes...))
	if end.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		span.SetAttributes(responseStatus(end.Code))
		span.SetStatus(codes.Error, codeName(end.Code))
	}
	span.End(trace.WithTimestamp(end.Time))
}

// exports returns whether the spans of a saga with this anchor are exported. An anchor that is damaged counts as none.
func (t *Telemetry) exports(anchor *treatyv1.TraceAnchor) bool {
	return t.Tracing() && sampled(anchor) && whole(anchor)
}

func sampled(anchor *treatyv1.TraceAnchor) bool {
	return anchor.GetFlags()&uint32(trace.FlagsSampled) != 0
}

func whole(anchor *treatyv1.TraceAnchor) bool {
	return traceID(anchor).IsValid() && spanID(anchor.GetSpanId()).IsValid()
}

func traceID(anchor *treatyv1.TraceAnchor) (id trace.TraceID) {
	if b := anchor.GetTraceId(); len(b) == len(id) {
		id = trace.TraceID(b)
	}
	return id
}

func spanID(b []byte) (id trace.SpanID) {
	if len(b) == len(id) {
		id = trace.SpanID(b)
	}
	return id
}

func traceState(anchor *treatyv1.TraceAnchor) trace.TraceState {
	if anchor.GetTracestate() == "" {
		return trace.TraceState{}
	}
	// A tracestate that can't be parsed is dropped, as W3C says.
	state, err := trace.ParseTraceState(anchor.GetTracestate())
	if err != nil {
		return trace.TraceState{}
	}
	return state
}

// spanContext is the context of one of the anchor's two spans.
func spanContext(anchor *treatyv1.TraceAnchor, span trace.SpanID) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    traceID(anchor),
		SpanID:     span,
		TraceFlags: trace.TraceFlags(anchor.GetFlags()),
		TraceState: traceState(anchor),
		Remote:     true,
	})
}
