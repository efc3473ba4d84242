package orchestrator_test

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/orchestrator"
)

// TestServerOptions authorizes callers with interceptors of the embedding program.
func TestServerOptions(t *testing.T) {
	t.Parallel()
	refuse := func(ctx context.Context) error {
		if values := metadata.ValueFromIncomingContext(ctx, "tenant"); !slices.Contains(values, "acme") {
			return status.Error(codes.PermissionDenied, "no such tenant")
		}
		return nil
	}
	w := unopened(t, newParticipants(t))
	w.options = append(w.options, orchestrator.WithServerOptions(
		grpc.ChainUnaryInterceptor(
			func(ctx context.Context, in any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
				if err := refuse(ctx); err != nil {
					return nil, err
				}
				return handle(ctx, in)
			}),
		grpc.ChainStreamInterceptor(
			func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
				if err := refuse(stream.Context()); err != nil {
					return err
				}
				return handle(server, stream)
			}),
		grpc.MaxRecvMsgSize(1), // which the orchestrator sets itself
	))
	w.open()
	_, err := w.acme.ChangeAddress(w.ctx(), move("r", "Main Street 1"))
	if status.Code(err) != codes.PermissionDenied || status.Convert(err).Message() != "no such tenant" {
		t.Errorf("without a tenant: %v", err)
	}
	ctx := metadata.AppendToOutgoingContext(w.ctx(), "tenant", "acme")
	if _, err := w.acme.ChangeAddress(ctx, move("r", "Main Street 1")); err != nil {
		t.Errorf("with a tenant: %v", err)
	}
}

// TestParticipantDialOptions dials a participant in a way of the embedding program's own.
func TestParticipantDialOptions(t *testing.T) {
	t.Parallel()
	w := unopened(t, newParticipants(t))
	var dialled atomic.Int64
	dial := grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		dialled.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	})
	w.options = append(w.options, orchestrator.WithParticipantDialOptions(cardService, dial))
	w.open()
	if _, err := w.acme.ChangeAddress(w.ctx(), move("r", "Main Street 1")); err != nil {
		t.Error(err)
	}
	if dialled.Load() == 0 {
		t.Error("the participant was dialled without the option")
	}
	_, err := orchestrator.New(orchestrator.WithStore(w.store),
		orchestrator.WithParticipantDialOptions(cardService, dial))
	if err == nil || !strings.Contains(err.Error(), "no participant is configured for it") {
		t.Errorf("options for nobody: %v", err)
	}
}

// TestTelemetryOfTheProgram exports spans and metrics to where the embedding program says.
func TestTelemetryOfTheProgram(t *testing.T) {
	spans, reader := tracetest.NewInMemoryExporter(), metric.NewManualReader()
	kept := &keeping{InMemoryExporter: spans}
	w := unopened(t, newParticipants(t))
	w.options = append(w.options, orchestrator.WithSpanExporter(kept), orchestrator.WithMetricReader(reader))
	w.open()
	if _, err := w.acme.ChangeAddress(w.ctx(), move("r", "Main Street 1")); err != nil {
		t.Fatal(err)
	}
	var metrics metricdata.ResourceMetrics
	if err := reader.Collect(w.ctx(), &metrics); err != nil || len(metrics.ScopeMetrics) == 0 {
		t.Errorf("metrics %v, %v", metrics, err)
	}
	for _, name := range []string{"treaty.store.size", "treaty.store.log.size"} {
		if got := gauge(&metrics, name); got <= 0 {
			t.Errorf("%s is %d bytes", name, got)
		}
	}
	w.stop()
	var names []string
	for _, span := range kept.GetSpans() {
		names = append(names, span.Name)
	}
	for _, want := range []string{"saga succeeded", "action ChangePostalAddress"} {
		if !slices.Contains(names, want) {
			t.Errorf("no span %q among %q", want, names)
		}
	}
}

// slow is an exporter that blocks.
type slow struct {
	tracetest.InMemoryExporter

	entered, release chan struct{}
}

func (s *slow) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	select {
	case s.entered <- struct{}{}:
	default:
	}
	<-s.release
	return s.InMemoryExporter.ExportSpans(ctx, spans)
}

// TestSlowExporter runs sagas while the exporter of the embedding program blocks.
func TestSlowExporter(t *testing.T) {
	exporter := &slow{entered: make(chan struct{}, 1), release: make(chan struct{})}
	w := unopened(t, newParticipants(t))
	w.options = append(w.options, orchestrator.WithSpanExporter(exporter))
	w.open()
	for i := range 3 {
		if _, err := w.acme.ChangeAddress(w.ctx(), move(strconv.Itoa(i), "Main Street 1")); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			<-exporter.entered // the third one runs while it blocks
		}
	}
	close(exporter.release)
}

// labelling is a span processor that adds an attribute.
type labelling struct{ sdktrace.SpanProcessor }

func (labelling) OnStart(_ context.Context, span sdktrace.ReadWriteSpan) {
	span.SetAttributes(attribute.String("region", "north"))
}

// TestPartsOfATracerProvider gives the orchestrator everything that a tracer provider is made of.
func TestPartsOfATracerProvider(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "no such exporter") // it isn't asked
	recorder, exported := tracetest.NewSpanRecorder(), new(keeping)
	exported.InMemoryExporter = tracetest.NewInMemoryExporter()
	var asked atomic.Int64
	sampler := sampling(func(_ sdktrace.SamplingParameters) sdktrace.SamplingDecision {
		if asked.Add(1) == 1 {
			return sdktrace.Drop
		}
		return sdktrace.RecordAndSample
	})
	w := unopened(t, newParticipants(t))
	w.options = append(w.options, orchestrator.WithSpanProcessor(labelling{recorder}),
		orchestrator.WithSpanProcessor(sdktrace.NewBatchSpanProcessor(exported)), orchestrator.WithSpanSampler(sampler),
		orchestrator.WithTelemetryResource(resource.NewSchemaless(semconv.ServiceName("shop"))))
	w.open()
	for _, id := range []string{"dropped", "traced"} {
		if _, err := w.acme.ChangeAddress(w.ctx(), move(id, "Main Street 1")); err != nil {
			t.Fatal(err)
		}
	}
	w.stop() // flushes
	traces, spans := make(map[trace.TraceID]bool), exported.GetSpans()
	for _, span := range spans {
		traces[span.SpanContext.TraceID()] = true
		if !slices.Contains(span.Attributes, attribute.String("region", "north")) {
			t.Errorf("%s has the attributes %v", span.Name, span.Attributes)
		}
		if !slices.Contains(span.Resource.Attributes(), semconv.ServiceName("shop")) {
			t.Errorf("%s is of %v", span.Name, span.Resource)
		}
	}
	if len(spans) < 4 || len(traces) != 1 || asked.Load() != 2 {
		t.Errorf("%d spans of %d traces; %d sagas were sampled", len(spans), len(traces), asked.Load())
	}
	if got := len(recorder.Ended()); got != len(spans) {
		t.Errorf("the first processor saw %d spans, and the second one %d", got, len(spans))
	}
}

// sampling is a sampler.
type sampling func(sdktrace.SamplingParameters) sdktrace.SamplingDecision

func (s sampling) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{Decision: s(p)}
}

func (sampling) Description() string { return "as the test says" }

// keeping keeps the spans when it is shut down.
type keeping struct{ *tracetest.InMemoryExporter }

func (keeping) Shutdown(context.Context) error { return nil }

// gauge returns the value of a gauge, or -1 if there is none.
func gauge(metrics *metricdata.ResourceMetrics, name string) int64 {
	for _, scope := range metrics.ScopeMetrics {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Gauge[int64]); ok && m.Name == name && len(data.DataPoints) == 1 {
				return data.DataPoints[0].Value
			}
		}
	}
	return -1
}
