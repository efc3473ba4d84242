package participant_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
)

func TestTracesCallsInTheCallersTrace(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	defer setTelemetry(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)))()

	server, stopServer := serve(t, participant.Options{},
		&fake{get: func(context.Context, string) (*customerv1.Customer, error) {
			return &customerv1.Customer{}, nil
		}})
	client := customerv1.NewCustomerServiceClient(testkit.Dial(t, server.Addr().String()))
	ctx := metadata.AppendToOutgoingContext(t.Context(),
		"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	if _, err := client.GetCustomer(ctx, &customerv1.GetCustomerRequest{}); err != nil {
		t.Fatal(err)
	}
	stopServer()
	spans := recorder.Ended()
	if len(spans) != 1 {
		t.Fatalf("%d spans, want one", len(spans))
	}
	id, parent := spans[0].SpanContext().TraceID().String(), spans[0].Parent().SpanID().String()
	if id != "4bf92f3577b34da6a3ce929d0e0e4736" || parent != "00f067aa0ba902b7" {
		t.Errorf("the span is in trace %s under %s", id, parent)
	}
}

// TestUnsampledCalls tests that a call whose trace isn't sampled isn't traced at all, unless somebody could tell.
func TestUnsampledCalls(t *testing.T) {
	const (
		unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
		sampled   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	)
	share := sdktrace.ParentBased(sdktrace.NeverSample(),
		sdktrace.WithRemoteParentNotSampled(sdktrace.TraceIDRatioBased(0.99)))
	for _, test := range []struct {
		name        string
		sampler     sdktrace.Sampler
		metrics     bool
		traceparent string
		asked       bool // the sampler
		spans       int
	}{
		{"unsampled", sdktrace.ParentBased(sdktrace.AlwaysSample()), false, unsampled, false, 0},
		{"sampled", sdktrace.ParentBased(sdktrace.AlwaysSample()), false, sampled, true, 1},
		{"without a trace", sdktrace.ParentBased(sdktrace.AlwaysSample()), false, "", true, 1},
		{"with a malformed trace", sdktrace.ParentBased(sdktrace.AlwaysSample()), false,
			strings.Replace(unsampled, "4bf92f", "xxxxxx", 1), true, 1},
		{"a sampler that doesn't heed the caller", sdktrace.AlwaysSample(), false, unsampled, true, 1},
		{"a sampler that takes a share of what isn't sampled", share, false, unsampled, true, 1},
		{"with metrics", sdktrace.ParentBased(sdktrace.AlwaysSample()), true, unsampled, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			recorder, sampler := tracetest.NewSpanRecorder(), &countingSampler{Sampler: test.sampler}
			reader := metric.NewManualReader()
			restore := setTelemetry(sdktrace.NewTracerProvider(
				sdktrace.WithSpanProcessor(recorder), sdktrace.WithSampler(sampler)))
			defer restore()
			if test.metrics {
				otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
				defer otel.SetMeterProvider(noop.NewMeterProvider())
			}
			var seen string
			server, stopServer := serve(t, participant.Options{},
				&fake{get: func(ctx context.Context, _ string) (*customerv1.Customer, error) {
					seen = trace.SpanContextFromContext(ctx).TraceID().String()
					return &customerv1.Customer{}, nil
				}})
			asked := sampler.asked.Load() // when the server was made
			client := customerv1.NewCustomerServiceClient(testkit.Dial(t, server.Addr().String()))
			ctx := t.Context()
			if test.traceparent != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", test.traceparent)
			}
			if _, err := client.GetCustomer(ctx, &customerv1.GetCustomerRequest{}); err != nil {
				t.Fatal(err)
			}
			stopServer()
			if got := sampler.asked.Load() > asked; got != test.asked {
				t.Errorf("whether the sampler was asked is %v, want %v", got, test.asked)
			}
			if got := len(recorder.Ended()); got != test.spans {
				t.Errorf("%d spans, want %d", got, test.spans)
			}
			if strings.Contains(test.traceparent, "4bf92f") && seen != "4bf92f3577b34da6a3ce929d0e0e4736" {
				t.Errorf("the handler is in trace %s", seen)
			}
			var got metricdata.ResourceMetrics
			if test.metrics {
				if err := reader.Collect(t.Context(), &got); err != nil || len(got.ScopeMetrics) != 1 ||
					got.ScopeMetrics[0].Metrics[0].Name != "rpc.server.call.duration" {
					t.Errorf("the metrics are %v, %v, want the durations of calls", got.ScopeMetrics, err)
				}
			}
		})
	}
}

// countingSampler counts how often it is asked.
type countingSampler struct {
	sdktrace.Sampler

	asked atomic.Int64
}

func (s *countingSampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	s.asked.Add(1)
	return s.Sampler.ShouldSample(p)
}

// setTelemetry sets the process's tracer provider and propagator, until the returned function is called.
func setTelemetry(provider trace.TracerProvider) (restore func()) {
	before, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	otel.SetTracerProvider(provider)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	return func() {
		otel.SetTracerProvider(before)
		otel.SetTextMapPropagator(propagator)
	}
}

// BenchmarkTracing measures a call whose trace isn't sampled, without tracing and with it.
func BenchmarkTracing(b *testing.B) {
	for _, tracing := range []string{"off", "on"} {
		b.Run(tracing, func(b *testing.B) {
			if tracing == "on" {
				defer setTelemetry(sdktrace.NewTracerProvider())()
			}
			server, err := participant.NewServer(participant.Options{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			customerv1.RegisterCustomerServiceServer(server,
				&fake{get: func(context.Context, string) (*customerv1.Customer, error) {
					return &customerv1.Customer{}, nil
				}})
			ctx, stop := context.WithCancel(b.Context())
			served := make(chan error, 1)
			go func() { served <- server.Serve(ctx) }()
			client := customerv1.NewCustomerServiceClient(testkit.Dial(b, server.Addr().String()))
			call := metadata.AppendToOutgoingContext(b.Context(),
				"traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.GetCustomer(call, &customerv1.GetCustomerRequest{}); err != nil {
					b.Fatal(err)
				}
			}
			stop()
			if err := <-served; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// span is what a test compares of a span.
type span struct {
	Name, Trace, Parent, State, Kind, Status string
	Attributes                               map[string]string
}

// TestTracesBothWays compares the spans of commands that are sent as unary calls and over the stream.
func TestTracesBothWays(t *testing.T) {
	const (
		unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
		rare      = "00-4bf92f3577b34da60000000000000001-00f067aa0ba902b7-00"
	)
	provider, propagator := otel.GetTracerProvider(), otel.GetTextMapPropagator()
	defer otel.SetTracerProvider(provider)
	defer otel.SetTextMapPropagator(propagator)
	for _, test := range []struct {
		name       string
		parent     string
		err        error
		sampler    sdktrace.Sampler
		propagator propagation.TextMapPropagator
		want       []string // the names of the spans
	}{
		{name: "a sampled saga", parent: traceparent, want: []string{"inside", changeAddress}},
		{name: "a refusal", parent: traceparent, err: status.Error(codes.NotFound, "no"),
			want: []string{"inside", changeAddress}},
		{name: "an error", parent: traceparent, err: errors.New("secret"), want: []string{"inside", changeAddress}},
		{name: "an unsampled saga", parent: unsampled},
		{name: "an unsampled saga of a participant that records all", parent: unsampled,
			sampler: sdktrace.AlwaysSample(), want: []string{"inside", changeAddress}},
		{name: "a participant that records a thousandth", parent: rare, want: []string{"inside", changeAddress},
			sampler: sdktrace.ParentBased(sdktrace.NeverSample(),
				sdktrace.WithRemoteParentNotSampled(sdktrace.TraceIDRatioBased(0.001)))},
		{name: "a saga without a trace", want: []string{"inside", changeAddress}},
		{name: "a malformed parent", parent: "00-x-00", want: []string{"inside", changeAddress}},
		{name: "no propagator", parent: unsampled, propagator: propagation.NewCompositeTextMapPropagator(),
			want: []string{"inside", changeAddress}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := make(map[string][]span)
			for way, send := range ways {
				recorder := tracetest.NewSpanRecorder()
				options := []sdktrace.TracerProviderOption{sdktrace.WithSpanProcessor(recorder)}
				if test.sampler != nil {
					options = append(options, sdktrace.WithSampler(test.sampler))
				}
				otel.SetTracerProvider(sdktrace.NewTracerProvider(options...))
				otel.SetTextMapPropagator(propagation.TraceContext{})
				if test.propagator != nil {
					otel.SetTextMapPropagator(test.propagator)
				}
				server, stop := serve(t, participant.Options{}, &changer{change: func(
					ctx context.Context, request *customerv1.ChangeAddressRequest,
				) (*customerv1.AddressChanged, error) {
					ctx, inner := otel.Tracer("test").Start(ctx, "inside")
					inner.End()
					if id := inner.SpanContext().TraceID().String(); test.parent == unsampled &&
						test.propagator == nil && !strings.Contains(unsampled, id) {
						t.Errorf("%s: the handler's calls are in the trace %s", way, id)
					}
					trace.SpanFromContext(ctx).SetAttributes(attribute.Bool("late", true))
					if test.err != nil {
						return nil, test.err
					}
					return echoing(ctx, request)
				}})
				c := action(t, "")
				c.Traceparent, c.Tracestate = test.parent, "a=b"
				send(t.Context(), testkit.Dial(t, server.Addr().String()), c)
				stop()
				got[way] = spansOf(recorder.Ended())
			}
			var names []string
			for _, s := range got["unary"] {
				names = append(names, s.Name)
			}
			if diff := cmp.Diff(test.want, names); diff != "" {
				t.Errorf("the spans of a unary call (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(got["unary"], got["stream"]); diff != "" {
				t.Errorf("the spans (-unary +stream):\n%s", diff)
			}
		})
	}
}

// spansOf returns spans without what differs from run to run.
func spansOf(ended []sdktrace.ReadOnlySpan) []span {
	var spans []span
	ids := map[trace.SpanID]string{}
	traces := map[trace.TraceID]string{}
	for _, s := range ended {
		ids[s.SpanContext().SpanID()] = s.Name()
	}
	for _, s := range ended {
		id := s.SpanContext().TraceID()
		if strings.Contains(traceparent, id.String()) {
			traces[id] = "the saga's"
		} else if traces[id] == "" {
			traces[id] = fmt.Sprint("own ", len(traces))
		}
		parent := s.Parent().SpanID().String()
		if name, here := ids[s.Parent().SpanID()]; here {
			parent = name
		}
		attributes := make(map[string]string)
		for _, a := range s.Attributes() {
			attributes[string(a.Key)] = a.Value.String()
		}
		if attributes["server.port"] != "" {
			attributes["server.port"] = "set"
		}
		spans = append(spans, span{
			Name: s.Name(), Trace: traces[id], Parent: parent, State: s.SpanContext().TraceState().String(),
			Kind: s.SpanKind().String(), Status: fmt.Sprint(s.Status()), Attributes: attributes,
		})
	}
	return spans
}

// TestMeasuresBothWays compares the metrics of commands that are sent as unary calls and over the stream.
func TestMeasuresBothWays(t *testing.T) {
	defer setTelemetry(sdktrace.NewTracerProvider())()
	defer otel.SetMeterProvider(noop.NewMeterProvider())
	type point struct {
		Scope      instrumentation.Scope
		Name, Unit string
		Attributes string
		Count      uint64
		Bounds     []float64
	}
	got := make(map[string][]point)
	for way, send := range ways {
		reader := metric.NewManualReader()
		otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
		var err error
		server, stop := serve(t, participant.Options{}, &changer{change: func(
			ctx context.Context, request *customerv1.ChangeAddressRequest,
		) (*customerv1.AddressChanged, error) {
			if err != nil {
				return nil, err
			}
			return echoing(ctx, request)
		}})
		connection := testkit.Dial(t, server.Addr().String())
		for _, err = range []error{nil, nil, status.Error(codes.NotFound, "no"), errors.New("secret")} {
			send(t.Context(), connection, action(t, ""))
		}
		stop()
		var data metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &data); err != nil {
			t.Fatal(err)
		}
		for _, scope := range data.ScopeMetrics {
			for _, m := range scope.Metrics {
				for _, p := range m.Data.(metricdata.Histogram[float64]).DataPoints {
					if p.Sum <= 0 || p.Sum > 60 {
						t.Errorf("%s: %s is %v", way, m.Name, p.Sum)
					}
					got[way] = append(got[way], point{scope.Scope, m.Name, m.Unit,
						p.Attributes.Encoded(attribute.DefaultEncoder()), p.Count, p.Bounds})
				}
			}
		}
		slices.SortFunc(got[way], func(a, b point) int { return strings.Compare(a.Attributes, b.Attributes) })
	}
	if len(got["unary"]) != 3 {
		t.Errorf("the metrics of unary calls are %v", got["unary"])
	}
	if diff := cmp.Diff(got["unary"], got["stream"], cmpopts.EquateComparable(instrumentation.Scope{})); diff != "" {
		t.Errorf("the metrics (-unary +stream):\n%s", diff)
	}
}
