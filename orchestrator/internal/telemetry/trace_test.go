package telemetry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	tele, err := telemetry.New(t.Context(), telemetry.Config{Unbatched: true, SpanExporter: exporter, Sampler: sampler})
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

// startOf returns the start of step 1.
func startOf(direction, method string) *telemetry.StepStart {
	return &telemetry.StepStart{
		Saga: saga, SagaStart: begin, Step: "1", Direction: direction, Method: method, Time: begin.Add(time.Second),
	}
}

// start starts the first attempt of step 1.
func start(
	tele *telemetry.Telemetry, anchor *treatyv1.TraceAnchor, epoch uint64, direction, method string,
) telemetry.AttemptSpan {
	return tele.StartAttempt(&telemetry.AttemptParams{
		Saga: saga, Step: "1", Direction: direction, Method: method, Number: 1, Epoch: epoch, Target: "h:1",
		Anchor: anchor,
	})
}

// described returns what a backend stores of a span.
func described(s tracetest.SpanStub) string {
	return fmt.Sprint(s.Name, s.SpanKind, s.SpanContext, s.Parent, s.StartTime, s.EndTime, s.Attributes, s.Links,
		s.Status, s.Resource)
}

// The trace of a saga that survives a crash is complete: what is exported again is the same, no id belongs to two
// spans, and every span's parent exists, also that of the participant's spans whose attempt died with the process.
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
		first.EmitStep(anchor, startOf(wire.Action, change))
		// The span of this attempt is lost with the process. The participant's spans aren't.
		sent := start(first, anchor, 1, wire.Action, change).Traceparent()
		if err := first.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := exporter.GetSpans()
		exporter.Reset()

		second := tracing(t, exporter, sdktrace.NeverSample()) // ignored: the anchor is sampled
		anchor = &treatyv1.TraceAnchor{}
		if err := proto.Unmarshal(journaled, anchor); err != nil {
			t.Fatal(err)
		}
		second.EmitAnchor(anchor, telemetry.SagaStart{Saga: saga, Definition: definition, Time: begin})
		second.EmitStep(anchor, startOf(wire.Action, change))
		// The reply was lost with the process, so the attempts start at 1 again.
		again := start(second, anchor, 2, wire.Action, change)
		again.End(telemetry.AttemptEnd{Outcome: treatyv1.Outcome_OUTCOME_DONE, Code: grpccodes.OK})
		second.EmitStep(anchor, startOf(wire.Compensation, restore))
		start(second, anchor, 2, wire.Compensation, restore).End(telemetry.AttemptEnd{
			Outcome: treatyv1.Outcome_OUTCOME_DONE, Code: grpccodes.OK,
		})
		second.EmitEnd(anchor, telemetry.SagaEnd{
			Saga: saga, Definition: definition, Start: begin, Time: begin.Add(time.Minute),
			State: treatyv1.SagaState_SAGA_STATE_COMPENSATED, Code: int32(grpccodes.FailedPrecondition),
		})

		spans := exporter.GetSpans()
		if len(before) != 2 || len(spans) != 6 {
			t.Fatalf("%d and %d spans, want 2 and 6", len(before), len(spans))
		}
		for i := range before {
			if diff := cmp.Diff(described(before[i]), described(spans[i])); diff != "" {
				t.Errorf("exported again, a span differs (-before +after):\n%s", diff)
			}
		}
		root, action, attempt, undo, undoAttempt, end := spans[0], spans[1], spans[2], spans[3], spans[4], spans[5]
		if id := action.SpanContext.SpanID().String(); !strings.Contains(sent, id) || sent != again.Traceparent() {
			t.Errorf("the parent of the participant's spans is %s, and then %s; want the step's span %s", sent,
				again.Traceparent(), id)
		}
		ids := map[trace.SpanID]string{}
		for _, s := range spans {
			if s.SpanContext.TraceID().String() != root.SpanContext.TraceID().String() {
				t.Errorf("%s is in another trace", s.Name)
			}
			if other, twice := ids[s.SpanContext.SpanID()]; twice {
				t.Errorf("%s has the id of %s", s.Name, other)
			}
			ids[s.SpanContext.SpanID()] = s.Name
		}
		if called && !root.Parent.Equal(callerSpan) {
			t.Errorf("the anchor's parent is %v, want the caller's span", root.Parent)
		}
		if !called && root.Parent.IsValid() {
			t.Errorf("the anchor has the parent %v, want none", root.Parent)
		}
		if root.Name != definition || !root.StartTime.Equal(begin) {
			t.Errorf("the anchor is %s of %v", root.Name, root.StartTime)
		}
		for _, below := range []struct{ span, parent tracetest.SpanStub }{
			{action, root}, {undo, root}, {end, root}, {attempt, action}, {undoAttempt, undo},
		} {
			if below.span.Parent.SpanID() != below.parent.SpanContext.SpanID() {
				t.Errorf("the parent of %s isn't %s", below.span.Name, below.parent.Name)
			}
		}
		if len(undo.Links) != 1 || undo.Links[0].SpanContext.SpanID() != action.SpanContext.SpanID() {
			t.Errorf("the compensation links to %v, want the action's span", undo.Links)
		}
		duration := end.EndTime.Sub(end.StartTime)
		if end.Name != "saga compensated" || end.Status.Code != codes.Error || duration != time.Minute {
			t.Errorf("the end is %s, %v, %v", end.Name, end.Status, duration)
		}
	}
}

// Attempt 1 of a process that was killed and attempt 1 of the next one are two spans. Each process counts from 1.
func TestAttemptsOfTwoProcessesDiffer(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tele := tracing(t, exporter, nil)
	anchor := tele.NewAnchor(t.Context(), saga, definition)
	for epoch := range uint64(2) {
		start(tele, anchor, epoch, wire.Action, change).End(telemetry.AttemptEnd{})
	}
	spans := exporter.GetSpans()
	if len(spans) != 2 || spans[0].SpanContext.SpanID() == spans[1].SpanContext.SpanID() {
		t.Errorf("got %v, want two spans with different ids", spans)
	}
}

// A child that has succeeded and is then compensated for its parent has an end for each, with its own id. An end is
// longer than the anchor even if the saga was over at once: otherwise Jaeger moves it and warns.
func TestEachEndHasItsSpan(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tele := tracing(t, exporter, nil)
	anchor := tele.NewAnchor(t.Context(), saga, definition)
	tele.EmitAnchor(anchor, telemetry.SagaStart{Saga: saga, Definition: definition, Time: begin})
	for _, state := range []treatyv1.SagaState{
		treatyv1.SagaState_SAGA_STATE_SUCCEEDED, treatyv1.SagaState_SAGA_STATE_COMPENSATED,
	} {
		tele.EmitEnd(anchor, telemetry.SagaEnd{
			Saga: saga, Definition: definition, Start: begin, Time: begin, State: state,
		})
	}
	spans := exporter.GetSpans()
	if len(spans) != 3 || spans[1].SpanContext.SpanID() == spans[2].SpanContext.SpanID() {
		t.Fatalf("got %v, want an anchor and two ends with different ids", spans)
	}
	for _, end := range spans[1:] {
		if end.EndTime.Sub(end.StartTime) <= spans[0].EndTime.Sub(spans[0].StartTime) {
			t.Errorf("%s isn't longer than the anchor", end.Name)
		}
	}
}

// The anchor of a child is below the step of its parent, also if the parent isn't sampled. The compensation of the step
// links to the child's anchor. Every marker takes longer than the one above it: otherwise Jaeger moves it and warns.
func TestChildIsBelowItsStep(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tele := tracing(t, exporter, nil)
	const child = "sagas/c1"
	anchor := tele.NewAnchor(t.Context(), saga, definition)
	tele.EmitAnchor(anchor, telemetry.SagaStart{Saga: saga, Definition: definition, Time: begin})
	for direction, method := range map[string]string{wire.Action: change, wire.Compensation: restore} {
		step := startOf(direction, method)
		step.Child = child
		tele.EmitStep(anchor, step)
	}
	ctx := start(tele, anchor, 1, wire.Action, change).Context(t.Context())
	childAnchor := tele.NewChildAnchor(ctx, child, definition)
	tele.EmitAnchor(childAnchor, telemetry.SagaStart{Saga: child, Definition: definition, Time: begin})
	grandchild := startOf(wire.Action, change)
	grandchild.Saga = child
	tele.EmitStep(childAnchor, grandchild)

	byName := map[string]tracetest.SpanStub{}
	for _, s := range exporter.GetSpans() {
		byName[s.Name+" "+attributeOf(s, "treaty.saga")] = s
	}
	chain := []tracetest.SpanStub{
		byName[definition+" "+saga], byName["action ChangeAddress "+saga],
		byName[definition+" "+child], byName["action ChangeAddress "+child],
	}
	for i, s := range chain[1:] {
		if above := chain[i]; s.Parent.SpanID() != above.SpanContext.SpanID() || s.Name == "" ||
			s.EndTime.Sub(s.StartTime) <= above.EndTime.Sub(above.StartTime) {
			t.Errorf("%q isn't below %q and longer: %v to %v", s.Name, above.Name, s.StartTime, s.EndTime)
		}
	}
	var linked []trace.SpanID
	for _, link := range byName["compensation RestoreAddress "+saga].Links {
		linked = append(linked, link.SpanContext.SpanID())
	}
	want := []trace.SpanID{chain[1].SpanContext.SpanID(), chain[2].SpanContext.SpanID()}
	if !slices.Equal(linked, want) {
		t.Errorf("the compensation links to %v, want the action and the child's anchor %v", linked, want)
	}

	unsampled, _ := caller(0)
	anchor = tele.NewAnchor(unsampled, saga, definition)
	ctx = start(tele, anchor, 1, wire.Action, change).Context(t.Context())
	if got := tele.NewChildAnchor(ctx, child, definition); got.GetFlags() != 0 ||
		!slices.Equal(got.GetTraceId(), anchor.GetTraceId()) {
		t.Errorf("the child of a saga that isn't sampled has the anchor %v", got)
	}
}

func attributeOf(s tracetest.SpanStub, key attribute.Key) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

func TestAttemptSpan(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tele := tracing(t, exporter, nil)
	anchor := tele.NewAnchor(t.Context(), saga, definition)
	span := tele.StartAttempt(&telemetry.AttemptParams{
		Saga: saga, Step: "2.1", Direction: wire.Action, Number: 3, Epoch: 9, Method: change, Target: "customer:80",
		Kind: treatyv1.CommandKind_COMMAND_KIND_PIVOT, Anchor: anchor,
	})
	traceparent := span.Traceparent()
	current := trace.SpanContextFromContext(span.Context(t.Context()))
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
			step := startOf(wire.Action, change)
			a := &telemetry.AttemptParams{
				Saga: saga, Step: "1", Direction: wire.Action, Number: 1, Method: change, Anchor: test.anchor,
			}
			var span telemetry.AttemptSpan
			allocs := testing.AllocsPerRun(100, func() {
				test.tele.EmitAnchor(test.anchor, telemetry.SagaStart{Saga: saga, Definition: definition, Time: begin})
				test.tele.EmitStep(test.anchor, step)
				span = test.tele.StartAttempt(a)
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
	span := tele.StartAttempt(&telemetry.AttemptParams{Anchor: tele.NewAnchor(ctx, saga, definition)})
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
		tele.EmitStep(anchor, startOf(wire.Action, change))
		tele.EmitEnd(anchor, telemetry.SagaEnd{})
		span := tele.StartAttempt(&telemetry.AttemptParams{Anchor: anchor})
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
	anchor := tele.NewAnchor(ctx, saga, definition)
	id := trace.TraceID(anchor.GetTraceId()).String()
	if anchor.GetTracestate() != "vendor=x" || id != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("got %v", anchor)
	}
	span := tele.StartAttempt(&telemetry.AttemptParams{Anchor: anchor, Method: change})
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

// The anchor below a caller whose trace isn't sampled is made without asking the sampler, and is the same.
func TestAnchorOfUnsampledCaller(t *testing.T) {
	const parent = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
	t.Setenv("OTEL_TRACES_SAMPLER", "")
	exporter := tracetest.NewInMemoryExporter()
	fast := tracing(t, exporter, nil)
	slow := tracing(t, exporter, sdktrace.ParentBased(sdktrace.AlwaysSample()))
	for _, test := range []struct{ name, parent, state string }{
		{"not sampled", "00-" + parent + "-00", ""},
		{"with a tracestate", "00-" + parent + "-00", "vendor=x"},
		{"with a malformed tracestate", "00-" + parent + "-00", "vendor"},
		{"sampled", "00-" + parent + "-01", ""},
		{"of a later version", "01-" + parent + "-00", ""},
		{"of a later version, longer", "01-" + parent + "-00-x", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			md := metadata.Pairs("traceparent", test.parent)
			if test.state != "" {
				md.Set("tracestate", test.state)
			}
			ctx := metadata.NewIncomingContext(t.Context(), md)
			got, want := fast.NewAnchor(ctx, saga, definition), slow.NewAnchor(ctx, saga, definition)
			if !proto.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	for _, malformed := range []string{
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-00", "00_" + parent + "-00",
		"00-00000000000000000000000000000000-b7ad6b7169203331-00", strings.Replace("00-"+parent+"-00", "-b", "_b", 1),
	} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("traceparent", malformed))
		if anchor := fast.NewAnchor(ctx, saga, definition); len(anchor.GetParentSpanId()) != 0 {
			t.Errorf("%q is taken for a trace", malformed)
		}
	}
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("traceparent", "00-"+parent+"-00"))
	allocs := testing.AllocsPerRun(100, func() { fast.NewAnchor(ctx, saga, definition) })
	if allocs > 2 {
		t.Errorf("%v allocations", allocs)
	}
	always := sdktrace.AlwaysSample()
	if anchor := tracing(t, exporter, always).NewAnchor(ctx, saga, definition); anchor.GetFlags() != 1 {
		t.Error("a sampler that samples everything isn't asked")
	}
}
