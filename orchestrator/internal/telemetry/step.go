package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// StepStart describes the durable intent to send a step's action or compensation.
type StepStart struct {
	// Saga is the saga's name, "sagas/{saga}".
	Saga string

	// SagaStart is when the saga started.
	SagaStart time.Time

	// Step is the step's path.
	Step string

	// Direction is wire.Action or wire.Compensation.
	Direction string

	// Method is the method of the command, such as "acme.customer.v1.CustomerService/ChangeAddress".
	Method string

	// Kind is the kind of an action. It is unspecified for a compensation.
	Kind treatyv1.CommandKind

	// Participant names the participant that a broadcast's step goes to. It is empty for every other step.
	Participant string

	// Child is the name of the child saga that a step starts or compensates, "sagas/{saga}". It is empty for every
	// other step.
	Child string

	// Time is when the intent became durable.
	Time time.Time
}

// EmitStep exports the span of a step, which is named after its direction and method. It is the parent of the spans of
// the attempts, of the participant's spans and of the child saga's anchor. The span of a compensation links to that of
// the action, and to the child saga if it compensates one.
//
// Call it right after the commit of the intent, and again when the saga is recovered: the span is the same each time.
// It does nothing if the saga isn't traced.
func (t *Telemetry) EmitStep(anchor *treatyv1.TraceAnchor, s *StepStart) {
	if !t.exports(anchor) {
		return
	}
	parent := spanContext(anchor, spanID(anchor.GetSpanId()))
	level := levelBelow(parent.SpanID())
	w := &presetSpan{
		Context: trace.ContextWithRemoteSpanContext(context.Background(), parent),
		trace:   parent.TraceID(),
		span:    stepID(s.Saga, s.Step, s.Direction, level),
		state:   parent.TraceState(),
	}
	attributes := make([]attribute.KeyValue, 0, 7)
	attributes = append(attributes,
		semconv.RPCMethod(s.Method), keySaga.String(s.Saga), keyStep.String(s.Step), keyDirection.String(s.Direction))
	if s.Kind != treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED {
		attributes = append(attributes, keyKind.String(kindName(s.Kind)))
	}
	if s.Participant != "" {
		attributes = append(attributes, keyParticipant.String(s.Participant))
	}
	if s.Child != "" {
		attributes = append(attributes, keyChild.String(s.Child))
	}
	start := s.Time
	if start.Before(s.SagaStart) {
		start = s.SagaStart // the clock was turned back
	}
	options := []trace.SpanStartOption{trace.WithTimestamp(start), trace.WithAttributes(attributes...)}
	if s.Direction == wire.Compensation {
		options = append(options, trace.WithLinks(undone(anchor, s, level)...))
	}
	_, span := t.exporting.Start(w, s.Direction+" "+s.Method, options...)
	span.End(trace.WithTimestamp(start.Add(markerDuration(w.span))))
}

// undone returns the links of a compensation to what it compensates.
func undone(anchor *treatyv1.TraceAnchor, s *StepStart, level byte) []trace.Link {
	action := stepID(s.Saga, s.Step, wire.Action, level)
	links := []trace.Link{{SpanContext: spanContext(anchor, action)}}
	if s.Child != "" {
		child := anchorID(s.Child, levelBelow(action))
		links = append(links, trace.Link{SpanContext: spanContext(anchor, child)})
	}
	return links
}
