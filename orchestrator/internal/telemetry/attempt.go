package telemetry

import (
	"context"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	grpccodes "google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
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

	// Undoes is, for a compensation, the number of the action's last attempt, to which the span links. It is 0 if it
	// isn't known; then the span has no link.
	Undoes int
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

// RecoveredAttempt describes an attempt whose end is journaled.
type RecoveredAttempt struct {
	AttemptParams

	// StartTime is when the attempt started, EndTime when it ended.
	StartTime, EndTime time.Time

	// End is the end of the attempt.
	End AttemptEnd
}

// AttemptSpan is the span of an attempt in flight. The zero value is the span of an attempt without a trace.
type AttemptSpan struct {
	span   trace.Span
	anchor *treatyv1.TraceAnchor
}

// StartAttempt starts the span of an attempt; the caller ends it. Its parent is the anchor, and its id is derived from
// saga, step, direction and number. If the saga isn't traced, StartAttempt returns ctx unchanged and doesn't allocate.
func (t *Telemetry) StartAttempt(ctx context.Context, a *AttemptParams) (context.Context, AttemptSpan) {
	if !t.exports(a.Anchor) {
		return ctx, AttemptSpan{anchor: a.Anchor}
	}
	return t.startAttempt(ctx, a, trace.WithSpanKind(trace.SpanKindClient))
}

// RecoverAttempt exports the span of an attempt whose end is journaled, with the times of the journal. Call it for an
// attempt of a process that was killed, which may have lost the span. If it didn't, the span is exported twice with the
// same id.
func (t *Telemetry) RecoverAttempt(a *RecoveredAttempt) {
	if !t.exports(a.Anchor) {
		return
	}
	_, span := t.startAttempt(context.Background(), &a.AttemptParams,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(a.StartTime))
	span.span.SetAttributes(keyRecovered.Bool(true))
	span.end(a.End, trace.WithTimestamp(a.EndTime))
}

func (t *Telemetry) startAttempt(
	ctx context.Context, a *AttemptParams, options ...trace.SpanStartOption,
) (context.Context, AttemptSpan) {
	parent := spanContext(a.Anchor, spanID(a.Anchor.GetSpanId()))
	w := &presetSpan{
		Context: trace.ContextWithRemoteSpanContext(ctx, parent),
		trace:   parent.TraceID(),
		span:    attemptSpanID(a.Saga, a.Step, a.Direction, a.Number),
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
	options = append(options, trace.WithAttributes(attributes...))
	if a.Direction == wire.Compensation && a.Undoes > 0 {
		undone := attemptSpanID(a.Saga, a.Step, wire.Action, a.Undoes)
		options = append(options, trace.WithLinks(trace.Link{SpanContext: spanContext(a.Anchor, undone)}))
	}
	_, span := t.exporting.Start(w, a.Method, options...)
	return trace.ContextWithSpan(ctx, span), AttemptSpan{span: span, anchor: a.Anchor}
}

// End ends the span, which exports it.
func (s AttemptSpan) End(result AttemptEnd) {
	if s.span == nil {
		return
	}
	s.end(result)
}

func (s AttemptSpan) end(result AttemptEnd, options ...trace.SpanEndOption) {
	if result.Accepted {
		s.span.SetAttributes(keyOutcome.String("accepted"), responseStatus(int32(grpccodes.OK)))
		s.span.End(options...)
		return
	}
	s.span.SetAttributes(keyOutcome.String(outcomeName(result.Outcome)), responseStatus(int32(result.Code)))
	if result.Rejection != "" {
		s.span.SetAttributes(keyRejection.String(result.Rejection))
	}
	if result.Outcome != treatyv1.Outcome_OUTCOME_DONE {
		s.span.SetStatus(codes.Error, outcomeName(result.Outcome)+": "+codeName(int32(result.Code)))
	}
	s.span.End(options...)
}

// Traceparent returns the W3C header that makes this span the parent of the participant's spans. It is empty if the
// saga has no trace. The header of a saga that isn't sampled says so, so that no participant starts its own trace.
func (s AttemptSpan) Traceparent() string {
	if s.span != nil {
		sc := s.span.SpanContext()
		return traceparent(sc.TraceID(), sc.SpanID(), sc.TraceFlags())
	}
	if !isValid(s.anchor) {
		return ""
	}
	return traceparent(traceID(s.anchor), spanID(s.anchor.GetSpanId()), trace.TraceFlags(s.anchor.GetFlags()))
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
