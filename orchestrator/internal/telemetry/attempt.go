package telemetry

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	grpccodes "google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// AttemptParams describes an attempt.
type AttemptParams struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// Step is the step's path.
	Step string

	// Direction is wire.Action or wire.Compensation.
	Direction string

	// Number counts the attempts of the command, from 1. Attempts of an earlier process don't count.
	Number int

	// Epoch is the fencing epoch.
	Epoch uint64

	// Method is the method, such as "acme.customer.v1.CustomerService/ChangeAddress". It is the span's name.
	Method string

	// Target is the participant's gRPC target.
	Target string

	// Kind is the command's kind. It is unspecified if it isn't known, and for a compensation.
	Kind treatyv1.CommandKind

	// Anchor is the saga's trace anchor. It may be nil.
	Anchor *treatyv1.TraceAnchor
}

// AttemptEnd describes the end of an attempt.
type AttemptEnd struct {
	// Outcome is the attempt's outcome. It is never unspecified.
	Outcome treatyv1.Outcome

	// Code is the gRPC code.
	Code grpccodes.Code

	// Accepted is whether the participant has accepted the command and completes it later. The span then shows no
	// error.
	Accepted bool

	// Rejection is the full name of the rejection in a refusal. It may be empty.
	Rejection string
}

// AttemptSpan is the span of an attempt in flight. The zero value is the span of an attempt without a trace.
type AttemptSpan struct {
	span   trace.Span
	step   trace.SpanID
	anchor *treatyv1.TraceAnchor
}

// StartAttempt starts the span of an attempt; the caller ends it. Its parent is the step's span. If the saga isn't
// traced, StartAttempt doesn't allocate.
func (t *Telemetry) StartAttempt(a *AttemptParams) AttemptSpan {
	if !t.exports(a.Anchor) {
		return AttemptSpan{anchor: a.Anchor}
	}
	anchor := spanID(a.Anchor.GetSpanId())
	parent := spanContext(a.Anchor, stepID(a.Saga, a.Step, a.Direction, levelBelow(anchor)))
	w := &presetSpan{
		Context: trace.ContextWithRemoteSpanContext(context.Background(), parent),
		trace:   parent.TraceID(),
		span:    deriveSpanID(idAttempt, a.Saga, a.Step, a.Direction, a.Epoch, uint64(a.Number)),
		state:   parent.TraceState(),
	}
	attributes := make([]attribute.KeyValue, 0, 9)
	attributes = append(attributes,
		semconv.RPCSystemNameGRPC,
		semconv.RPCMethod(a.Method),
		keySaga.String(a.Saga),
		keyStep.String(a.Step),
		keyDirection.String(a.Direction),
		keyAttempt.Int(a.Number),
		keyEpoch.Int64(int64(a.Epoch)),
	)
	if a.Target != "" {
		attributes = append(attributes, keyTarget.String(a.Target))
	}
	if a.Kind != treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED {
		attributes = append(attributes, keyKind.String(kindName(a.Kind)))
	}
	_, span := t.exporting.Start(w, a.Method,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	return AttemptSpan{span: span, step: parent.SpanID(), anchor: a.Anchor}
}

// End ends the span, which exports it.
func (s AttemptSpan) End(result AttemptEnd) {
	if s.span == nil {
		return
	}
	defer s.span.End()
	if result.Accepted {
		s.span.SetAttributes(keyOutcome.String("accepted"), responseStatus(int32(grpccodes.OK)))
		return
	}
	s.span.SetAttributes(keyOutcome.String(outcomeName(result.Outcome)), responseStatus(int32(result.Code)))
	if result.Rejection != "" {
		s.span.SetAttributes(keyRejection.String(result.Rejection))
	}
	if result.Outcome != treatyv1.Outcome_OUTCOME_DONE {
		s.span.SetStatus(codes.Error, outcomeName(result.Outcome)+": "+codeName(int32(result.Code)))
	}
}

// parent returns the id of the span that becomes the parent of the participant's spans: that of the step. The attempt's
// own span is lost if the process is killed.
func (s AttemptSpan) parent() trace.SpanID {
	if s.step.IsValid() {
		return s.step
	}
	return spanID(s.anchor.GetSpanId())
}

// Traceparent returns the W3C header that makes the step's span the parent of the participant's spans. It is empty if
// the saga has no trace. The header of a saga that isn't sampled says so, so that no participant starts its own trace.
func (s AttemptSpan) Traceparent() string {
	if !isValid(s.anchor) {
		return ""
	}
	return traceparent(traceID(s.anchor), s.parent(), trace.TraceFlags(s.anchor.GetFlags()))
}

// Context returns ctx with the span context that Traceparent and Tracestate describe, for a child saga that runs here.
func (s AttemptSpan) Context(ctx context.Context) context.Context {
	if !isValid(s.anchor) {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, spanContext(s.anchor, s.parent()))
}

// Tracestate returns the W3C tracestate header. It is often empty.
func (s AttemptSpan) Tracestate() string { return s.anchor.GetTracestate() }

func responseStatus(code int32) attribute.KeyValue {
	return semconv.RPCResponseStatusCode(codeName(code))
}

func kindName(kind treatyv1.CommandKind) string {
	return strings.ToLower(strings.TrimPrefix(kind.String(), "COMMAND_KIND_"))
}

func stateName(state treatyv1.SagaState) string {
	return strings.TrimPrefix(state.String(), "SAGA_STATE_")
}

func outcomeName(outcome treatyv1.Outcome) string {
	switch outcome {
	case treatyv1.Outcome_OUTCOME_DONE:
		return "done"
	case treatyv1.Outcome_OUTCOME_REFUSED:
		return "refused"
	case treatyv1.Outcome_OUTCOME_CONFLICT:
		return "conflict"
	case treatyv1.Outcome_OUTCOME_MISDEPLOYED:
		return "misdeployed"
	case treatyv1.Outcome_OUTCOME_THROTTLED:
		return "throttled"
	default:
		return "unknown"
	}
}
