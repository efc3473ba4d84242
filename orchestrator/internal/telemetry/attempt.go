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
)

// The directions of an attempt.
const (
	DirectionAction       = "action"
	DirectionCompensation = "compensation"
)

// AttemptParams is one gRPC call made for a step, as its span shows it.
type AttemptParams struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// Step is the step's path.
	Step string

	// Direction is DirectionAction or DirectionCompensation.
	Direction string

	// Number counts the attempts of the command, from 1; those of a process that was killed don't count.
	Number int

	// Epoch is the fencing epoch.
	Epoch uint64

	// Method is what is called, e.g. "acme.customer.v1.CustomerService/ChangeAddress". The span is named after it.
	Method string

	// Target is the participant's gRPC target.
	Target string

	// Kind is the command's kind; unspecified when it isn't known or the attempt compensates.
	Kind treatyv1.CommandKind

	// Anchor is the saga's; nil when it has none.
	Anchor *treatyv1.TraceAnchor

	// Undoes is the number of the action's attempt that a compensation undoes: the last one made. Zero: not known, then the
	// span has no link.
	Undoes int
}

// AttemptEnd is what an attempt came to.
type AttemptEnd struct {
	// Outcome is never unspecified.
	Outcome treatyv1.Outcome

	// Code is the gRPC code.
	Code grpccodes.Code

	// Accepted says that the participant completes the command later, so that the attempt's outcome is no failure.
	Accepted bool

	// Rejection is the full name of the message that a refusal carries; empty when it carries none.
	Rejection string
}

// AttemptSpan is the span of an attempt under way. The zero value belongs to an attempt without a trace.
type AttemptSpan struct {
	span   trace.Span
	anchor *treatyv1.TraceAnchor
}

// StartAttempt starts an attempt's span; the caller ends it. It hangs from the anchor, and its id is derived from saga, step, direction
// and number. For a saga that isn't traced it takes no allocations and returns ctx as it is.
func (t *Telemetry) StartAttempt(ctx context.Context, a *AttemptParams) (context.Context, AttemptSpan) {
	if !t.exports(a.Anchor) {
		return ctx, AttemptSpan{anchor: a.Anchor}
	}
	return t.startAttempt(ctx, a, trace.WithSpanKind(trace.SpanKindClient))
}

// RecoverAttempt exports the span of an attempt whose end is journaled, with the times of the journal: the process that made it was killed
// and may have taken the span along. Who has it already sees it twice, with the same id.
func (t *Telemetry) RecoverAttempt(a *AttemptParams, start, end time.Time, result AttemptEnd) {
	if !t.exports(a.Anchor) {
		return
	}
	_, span := t.startAttempt(context.Background(), a, trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(start))
	span.span.SetAttributes(KeyRecovered.Bool(true))
	span.end(result, trace.WithTimestamp(end))
}

func (t *Telemetry) startAttempt(ctx context.Context, a *AttemptParams, options ...trace.SpanStartOption) (context.Context, AttemptSpan) {
	parent := spanContext(a.Anchor, spanID(a.Anchor.GetSpanId()))
	w := &wanted{
		Context: trace.ContextWithRemoteSpanContext(ctx, parent),
		trace:   parent.TraceID(),
		span:    attemptSpanID(a.Saga, a.Step, a.Direction, a.Number),
		state:   parent.TraceState(),
	}
	attributes := make([]attribute.KeyValue, 0, 9)
	attributes = append(attributes,
		semconv.RPCSystemNameGRPC,
		semconv.RPCMethod(a.Method),
		KeySaga.String(a.Saga),
		KeyStep.String(a.Step),
		KeyDirection.String(a.Direction),
		KeyAttempt.Int(a.Number),
		KeyEpoch.Int64(int64(a.Epoch)),
	)
	if a.Target != "" {
		attributes = append(attributes, KeyTarget.String(a.Target))
	}
	if a.Kind != treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED {
		attributes = append(attributes, KeyKind.String(kindName(a.Kind)))
	}
	options = append(options, trace.WithAttributes(attributes...))
	if a.Direction == DirectionCompensation && a.Undoes > 0 {
		undone := attemptSpanID(a.Saga, a.Step, DirectionAction, a.Undoes)
		options = append(options, trace.WithLinks(trace.Link{SpanContext: spanContext(a.Anchor, undone)}))
	}
	_, span := t.emit.Start(w, a.Method, options...)
	return trace.ContextWithSpan(ctx, span), AttemptSpan{span: span, anchor: a.Anchor}
}

// End ends the span, and so exports it.
func (s AttemptSpan) End(result AttemptEnd) {
	if s.span == nil {
		return
	}
	s.end(result)
}

func (s AttemptSpan) end(result AttemptEnd, options ...trace.SpanEndOption) {
	if result.Accepted {
		s.span.SetAttributes(KeyOutcome.String("accepted"), responseStatus(int32(grpccodes.OK)))
		s.span.End(options...)
		return
	}
	s.span.SetAttributes(KeyOutcome.String(outcomeName(result.Outcome)), responseStatus(int32(result.Code)))
	if result.Rejection != "" {
		s.span.SetAttributes(KeyRejection.String(result.Rejection))
	}
	if result.Outcome != treatyv1.Outcome_OUTCOME_DONE {
		s.span.SetStatus(codes.Error, outcomeName(result.Outcome)+": "+codeName(int32(result.Code)))
	}
	s.span.End(options...)
}

// Traceparent returns the W3C header that makes the participant's spans hang from this one; empty when the saga has no
// trace. A saga that isn't sampled says so to its participants, so that none of them begins a trace of its own.
func (s AttemptSpan) Traceparent() string {
	if s.span != nil {
		sc := s.span.SpanContext()
		return traceparent(sc.TraceID(), sc.SpanID(), sc.TraceFlags())
	}
	if !whole(s.anchor) {
		return ""
	}
	return traceparent(traceID(s.anchor), spanID(s.anchor.GetSpanId()), trace.TraceFlags(s.anchor.GetFlags()))
}

// Tracestate returns the W3C header that goes with it; often empty.
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
