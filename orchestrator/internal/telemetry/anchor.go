package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// NewAnchor returns the trace anchor of a new saga, the parent of its other spans. The caller journals it with the
// saga's start. StartAnchor exports nothing, since the start isn't durable yet.
//
// If ctx has a span context, or the metadata of a call that carries one, the saga continues that trace. Otherwise it
// starts one, and the configured sampler decides whether the saga is traced. The decision holds for the saga's whole
// life, and for its participants.
//
// While tracing is off, the anchor is the caller's own span, so that it becomes the parent of the participants'
// spans, or nil if there is none.
func (t *Telemetry) NewAnchor(ctx context.Context, saga, definition string) *treatyv1.TraceAnchor {
	if t.keepsUnsampled() {
		if caller, ok := unsampledCaller(ctx); ok {
			return makeAnchor(caller.TraceID(), anchorID(saga, 0), caller.SpanID(), 0, caller.TraceState())
		}
	}
	return t.newAnchor(Extract(ctx), saga, definition, 0)
}

// NewChildAnchor is NewAnchor for a saga that another saga has started as its step. The span context in ctx is that of
// the step; see [AttemptSpan.Context].
func (t *Telemetry) NewChildAnchor(ctx context.Context, saga, definition string) *treatyv1.TraceAnchor {
	ctx = Extract(ctx)
	level := byte(0)
	if step := trace.SpanContextFromContext(ctx); step.IsValid() {
		level = levelBelow(step.SpanID())
	}
	return t.newAnchor(ctx, saga, definition, level)
}

func (t *Telemetry) newAnchor(ctx context.Context, saga, definition string, level byte) *treatyv1.TraceAnchor {
	caller := trace.SpanContextFromContext(ctx)
	if !t.Tracing() {
		if !caller.IsValid() {
			return nil
		}
		return makeAnchor(caller.TraceID(), caller.SpanID(), trace.SpanID{}, caller.TraceFlags(), caller.TraceState())
	}
	_, span := t.sampling.Start(ctx, definition, trace.WithAttributes(sagaAttributes(saga, definition)...))
	sc := span.SpanContext()
	return makeAnchor(sc.TraceID(), anchorID(saga, level), caller.SpanID(), sc.TraceFlags(), sc.TraceState())
}

// makeAnchor returns an anchor. It takes one allocation, and one more if there is a tracestate.
func makeAnchor(
	traceID trace.TraceID, spanID, parent trace.SpanID, flags trace.TraceFlags, state trace.TraceState,
) *treatyv1.TraceAnchor {
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

// SagaStart describes the start of a saga.
type SagaStart struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// Definition is the saga definition.
	Definition string

	// Time is when the saga started.
	Time time.Time
}

// EmitAnchor exports the anchor's own span, which is named after the definition. Call it right after the commit of the
// saga's start, and again when the saga is recovered: the span is the same each time. It does nothing if the saga isn't
// traced.
func (t *Telemetry) EmitAnchor(anchor *treatyv1.TraceAnchor, start SagaStart) {
	if !t.exports(anchor) {
		return
	}
	w := &presetSpan{
		Context: context.Background(),
		trace:   traceID(anchor), span: spanID(anchor.GetSpanId()), state: traceState(anchor),
	}
	if parent := spanID(anchor.GetParentSpanId()); parent.IsValid() {
		w.Context = trace.ContextWithRemoteSpanContext(w.Context, spanContext(anchor, parent))
	}
	_, span := t.exporting.Start(w, start.Definition,
		trace.WithTimestamp(start.Time), trace.WithAttributes(sagaAttributes(start.Saga, start.Definition)...))
	span.End(trace.WithTimestamp(start.Time.Add(markerDuration(w.span))))
}

// SagaEnd describes the end of a saga.
type SagaEnd struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// Definition is the saga definition.
	Definition string

	// Start is when the saga started, Time when it ended.
	Start, Time time.Time

	// State is the saga's final state.
	State treatyv1.SagaState

	// Code is the gRPC code of the saga's error, or 0 if it succeeded.
	Code int32
}

// EmitEnd exports the span that covers the saga's duration. Call it right after the commit of the turn that ends the
// saga, and again when the saga is recovered: the span is the same each time. A saga that has succeeded and is then
// compensated for its parent has two ends, each with its own span. It does nothing if the saga isn't traced.
func (t *Telemetry) EmitEnd(anchor *treatyv1.TraceAnchor, end SagaEnd) {
	if !t.exports(anchor) {
		return
	}
	name := spanSagaSucceeded
	if end.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		name = spanSagaCompensated
	}
	parent := spanContext(anchor, spanID(anchor.GetSpanId()))
	w := &presetSpan{
		Context: trace.ContextWithRemoteSpanContext(context.Background(), parent),
		trace:   traceID(anchor),
		span:    deriveSpanID(idEnd, end.Saga, "", stateName(end.State)),
		state:   traceState(anchor),
	}
	attributes := append(sagaAttributes(end.Saga, end.Definition), keyState.String(stateName(end.State)))
	_, span := t.exporting.Start(w, name, trace.WithTimestamp(end.Start), trace.WithAttributes(attributes...))
	if end.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		span.SetAttributes(responseStatus(end.Code))
		span.SetStatus(codes.Error, codeName(end.Code))
	}
	// A span that isn't longer than its parent is taken for one of another clock.
	shortest := end.Start.Add(markerDuration(parent.SpanID()) + time.Microsecond)
	if end.Time.Before(shortest) {
		end.Time = shortest
	}
	span.End(trace.WithTimestamp(end.Time))
}

// exports returns whether the spans of a saga with this anchor are exported. A damaged anchor counts as none.
func (t *Telemetry) exports(anchor *treatyv1.TraceAnchor) bool {
	return t.Tracing() && isSampled(anchor) && isValid(anchor)
}

func isSampled(anchor *treatyv1.TraceAnchor) bool {
	return anchor.GetFlags()&uint32(trace.FlagsSampled) != 0
}

func isValid(anchor *treatyv1.TraceAnchor) bool {
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
	return parseTracestate(anchor.GetTracestate())
}

// spanContext returns the context of a span in the anchor's trace.
func spanContext(anchor *treatyv1.TraceAnchor, span trace.SpanID) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID:    traceID(anchor),
		SpanID:     span,
		TraceFlags: trace.TraceFlags(anchor.GetFlags()),
		TraceState: traceState(anchor),
		Remote:     true,
	})
}
