package telemetry_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

const (
	saga       = "sagas/s1"
	definition = "acme.customer.v1.CustomerSagas/ChangeAddress"
	change     = "acme.customer.v1.CustomerService/ChangeAddress"
	restore    = "acme.customer.v1.CustomerService/RestoreAddress"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func tracing(t *testing.T, exporter sdktrace.SpanExporter, sampler sdktrace.Sampler) *telemetry.Telemetry {
	t.Helper()
	tele, err := telemetry.New(t.Context(), telemetry.Config{SpanExporter: exporter, Sampler: sampler})
	if err != nil {
		t.Fatal(err)
	}
	return tele
}

// keeper is an exporter that keeps its spans when it is shut down.
type keeper struct{ *tracetest.InMemoryExporter }

func (keeper) Shutdown(context.Context) error { return nil }

func caller(flags trace.TraceFlags) (context.Context, trace.SpanContext) {
	sc := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5, 6}, TraceFlags: flags, Remote: true,
	})
	return trace.ContextWithRemoteSpanContext(context.Background(), sc), sc
}

// attempt makes the first attempt of step 1, which is done.
func attempt(tele *telemetry.Telemetry, anchor *treatyv1.TraceAnchor, direction, method string) {
	a := &telemetry.AttemptParams{
		Saga: saga, Step: "1", Direction: direction, Method: method, Number: 1, Epoch: 2, Target: "h:1", Anchor: anchor,
	}
	if direction == wire.Compensation {
		a.Undoes = 1
	}
	_, span := tele.StartAttempt(context.Background(), a)
	span.End(telemetry.AttemptEnd{Outcome: treatyv1.Outcome_OUTCOME_DONE, Code: grpccodes.OK})
}

// The trace of a saga that survives a crash is complete: no id appears twice, and every span's parent exists.
func TestTraceIsCompleteAfterACrash(t *testing.T) {
	for _, called := range []bool{true, false} {
		exporter := keeper{tracetest.NewInMemoryExporter()}
		ctx, callerSpan := context.Background(), trace.SpanContext{}
		if called {
			ctx, callerSpan = caller(trace.FlagsSampled)
		}
		first := tracing(t, exporter, nil)
		anchor := first.NewAnchor(ctx, saga, definition)
		if n := len(exporter.GetSpans()); n != 0 {
			t.Fatalf("%d spans were exported before the start is durable", n)
		}
		journaled, err := proto.Marshal(anchor)
		if err != nil {
			t.Fatal(err)
		}
		first.EmitAnchor(anchor, telemetry.SagaStart{Saga: saga, Definition: definition, Time: begin})
		// The span of this attempt is lost with the process. The participant's spans aren't.
		_, lost := first.StartAttempt(context.Background(), &telemetry.AttemptParams{
			Saga: saga, Step: "1", Direction: wire.Action, Method: change, Number: 1, Epoch: 1, Target: "h:1",
			Anchor: anchor,
		})
		if err := first.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}

		second := tracing(t, exporter, sdktrace.NeverSample()) // ignored: the anchor is sampled
		anchor = &treatyv1.TraceAnchor{}
		if err := proto.Unmarshal(journaled, anchor); err != nil {
			t.Fatal(err)
		}
		// The reply was lost with the process, so the attempts start at 1 again.
		attempt(second, anchor, wire.Action, change)
		attempt(second, anchor, wire.Compensation, restore)
		second.EmitEnd(anchor, telemetry.SagaEnd{
			Saga: saga, Definition: definition, Start: begin, Time: begin.Add(time.Minute),
			State: treatyv1.SagaState_SAGA_STATE_COMPENSATED, Code: int32(grpccodes.FailedPrecondition),
		})

		spans := exporter.GetSpans()
		if len(spans) != 4 {
			t.Fatalf("%d spans, want 4", len(spans))
		}
		if again := spans[1].SpanContext.SpanID().String(); !strings.Contains(lost.Traceparent(), again) {
			t.Errorf("the parent %s of the participant's spans is lost: the new id is %s", lost.Traceparent(), again)
		}
		ids := map[trace.SpanID]string{}
		for _, s := range spans {
			if s.SpanContext.TraceID().String() != spans[0].SpanContext.TraceID().String() {
				t.Errorf("%s is in another trace", s.Name)
			}
			if other, twice := ids[s.SpanContext.SpanID()]; twice {
				t.Errorf("%s has the id of %s", s.Name, other)
			}
			ids[s.SpanContext.SpanID()] = s.Name
		}
		root := spans[0]
		if called && !root.Parent.Equal(callerSpan) {
			t.Errorf("the anchor's parent is %v, want the caller's span", root.Parent)
		}
		if !called && root.Parent.IsValid() {
			t.Errorf("the anchor has the parent %v, want none", root.Parent)
		}
		if root.Name != definition || !root.StartTime.Equal(begin) || root.EndTime.Sub(begin) != time.Microsecond {
			t.Errorf("the anchor is %s, %v to %v", root.Name, root.StartTime, root.EndTime)
		}
		for _, s := range spans[1:] {
			if s.Parent.SpanID() != root.SpanContext.SpanID() {
				t.Errorf("the parent of %s is %v, want the anchor", s.Name, s.Parent.SpanID())
			}
		}
		compensation, end := spans[2], spans[3]
		if len(compensation.Links) != 1 || compensation.Links[0].SpanContext.SpanID() != spans[1].SpanContext.SpanID() {
			t.Errorf("the compensation links to %v, want the action's last attempt", compensation.Links)
		}
		duration := end.EndTime.Sub(end.StartTime)
		if end.Name != "saga compensated" || end.Status.Code != codes.Error || duration != time.Minute {
			t.Errorf("the end is %s, %v, %v", end.Name, end.Status, duration)
		}
	}
}

func TestAttemptSpan(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tele := tracing(t, exporter, nil)
	anchor := tele.NewAnchor(t.Context(), saga, definition)
	ctx, span := tele.StartAttempt(t.Context(), &telemetry.AttemptParams{
		Saga: saga, Step: "2.1", Direction: wire.Action, Number: 3, Epoch: 9, Method: change, Target: "customer:80",
		Kind: treatyv1.CommandKind_COMMAND_KIND_PIVOT, Anchor: anchor,
	})
	traceparent := span.Traceparent()
	current := trace.SpanContextFromContext(ctx)
	if "00-"+current.TraceID().String()+"-"+current.SpanID().String()+"-01" != traceparent {
		t.Errorf("the traceparent is %s, the context has %v", traceparent, current)
	}
	span.End(telemetry.AttemptEnd{
		Outcome: treatyv1.Outcome_OUTCOME_REFUSED, Code: grpccodes.NotFound, Rejection: "acme.customer.v1.NoCustomer",
	})
	got := exporter.GetSpans()[0]
	if got.Name != change || got.SpanKind != trace.SpanKindClient || got.Status.Code != codes.Error {
		t.Errorf("got %s, %v, %v", got.Name, got.SpanKind, got.Status)
	}
	for _, want := range []attribute.KeyValue{
		attribute.String("rpc.system.name", "grpc"),
		attribute.String("rpc.method", change),
		attribute.String("rpc.response.status_code", "NOT_FOUND"),
		attribute.String("treaty.saga", saga),
		attribute.String("treaty.step", "2.1"),
		attribute.String("treaty.direction", "action"),
		attribute.Int("treaty.attempt", 3),
		attribute.String("treaty.outcome", "refused"),
		attribute.String("treaty.kind", "pivot"),
		attribute.String("treaty.rejection", "acme.customer.v1.NoCustomer"),
	} {
		if !slices.Contains(got.Attributes, want) {
			t.Errorf("%v is missing in %v", want, got.Attributes)
		}
	}
}

// A saga that isn't sampled says so to its participants, exports nothing, and doesn't allocate.
func TestUnsampledSaga(t *testing.T) {
	unsampled, _ := caller(0)
	var off *telemetry.Telemetry
	exporter := tracetest.NewInMemoryExporter()
	on := tracing(t, exporter, nil)
	never := tracing(t, exporter, sdktrace.ParentBased(sdktrace.NeverSample()))
	for _, test := range []struct {
		name   string
		tele   *telemetry.Telemetry
		anchor *treatyv1.TraceAnchor
		sent   bool // whether participants receive a traceparent
	}{
		{"off", off, off.NewAnchor(context.Background(), saga, definition), false},
		{"off, with a caller", off, off.NewAnchor(unsampled, saga, definition), true},
		{"not sampled by the caller", on, on.NewAnchor(unsampled, saga, definition), true},
		{"not sampled by the sampler", never, never.NewAnchor(context.Background(), saga, definition), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := context.Background()
			a := &telemetry.AttemptParams{
				Saga: saga, Step: "1", Direction: wire.Action, Number: 1, Method: change, Anchor: test.anchor,
			}
			var span telemetry.AttemptSpan
			allocs := testing.AllocsPerRun(100, func() {
				test.tele.EmitAnchor(test.anchor, telemetry.SagaStart{Saga: saga, Definition: definition, Time: begin})
				_, span = test.tele.StartAttempt(ctx, a)
				span.End(telemetry.AttemptEnd{Outcome: treatyv1.Outcome_OUTCOME_DONE})
				test.tele.EmitEnd(test.anchor, telemetry.SagaEnd{Saga: saga, Definition: definition})
				test.tele.SagaStarted(definition)
				test.tele.AttemptEnded(change, treatyv1.Outcome_OUTCOME_DONE, time.Second)
				test.tele.Committed(1, time.Second)
			})
			if allocs != 0 {
				t.Errorf("%v allocations", allocs)
			}
			parent := span.Traceparent()
			if test.sent != (parent != "") || test.sent && !strings.HasSuffix(parent, "-00") {
				t.Errorf("the traceparent is %q", parent)
			}
		})
	}
	if n := len(exporter.GetSpans()); n != 0 {
		t.Errorf("%d spans are exported", n)
	}
}

// While tracing is off, the caller's span is the parent of the participants' spans.
func TestTracingOffForwardsTheCallersTrace(t *testing.T) {
	ctx, sc := caller(trace.FlagsSampled)
	tele, err := telemetry.New(ctx, telemetry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, span := tele.StartAttempt(ctx, &telemetry.AttemptParams{Anchor: tele.NewAnchor(ctx, saga, definition)})
	if want := "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-01"; span.Traceparent() != want {
		t.Errorf("got %q, want %q", span.Traceparent(), want)
	}
}

func TestDamagedAnchor(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tele := tracing(t, exporter, nil)
	for _, anchor := range []*treatyv1.TraceAnchor{
		nil,
		{Flags: 1},
		{Flags: 1, TraceId: []byte{1}, SpanId: []byte{1}},
		{Flags: 1, TraceId: make([]byte, 16), SpanId: make([]byte, 8)},
		{Flags: 1, TraceId: make([]byte, 17), SpanId: make([]byte, 9)},
	} {
		tele.EmitAnchor(anchor, telemetry.SagaStart{Saga: saga, Definition: definition, Time: begin})
		tele.EmitEnd(anchor, telemetry.SagaEnd{})
		_, span := tele.StartAttempt(t.Context(), &telemetry.AttemptParams{Anchor: anchor})
		span.End(telemetry.AttemptEnd{})
		if span.Traceparent() != "" {
			t.Errorf("%v: the traceparent is %q", anchor, span.Traceparent())
		}
	}
	if n := len(exporter.GetSpans()); n != 0 {
		t.Errorf("%d spans are exported", n)
	}
}

func TestTracestate(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tele := tracing(t, exporter, nil)
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(
		"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate", "vendor=x"))
	anchor := tele.NewAnchor(telemetry.Extract(ctx), saga, definition)
	id := trace.TraceID(anchor.GetTraceId()).String()
	if anchor.GetTracestate() != "vendor=x" || id != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("got %v", anchor)
	}
	_, span := tele.StartAttempt(t.Context(), &telemetry.AttemptParams{Anchor: anchor, Method: change})
	if span.Tracestate() != "vendor=x" {
		t.Errorf("the tracestate is %q", span.Tracestate())
	}
	for _, malformed := range []string{
		"", "00-zz-b7ad6b7169203331-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01",
	} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("traceparent", malformed))
		if trace.SpanContextFromContext(telemetry.Extract(ctx)).IsValid() {
			t.Errorf("%q is taken for a trace", malformed)
		}
	}
}
