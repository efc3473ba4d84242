// Package telemetry holds every span, attribute and metric name of the orchestrator in one place, and makes the spans of
// a saga's trace.
//
// A saga's trace is made of spans that each are exported as soon as they end, so that the trace is whole while the saga
// runs and after a crash: the anchor, right after the start is committed; one span per attempt; an end span that covers
// the saga's duration. What they hang from, the [treatyv1.TraceAnchor], is journaled with the saga's start.
//
// Telemetry is off unless the OTEL_* environment asks for it, and then costs next to nothing. A nil [*Telemetry] is one
// that is off. The package never sees a payload, and never decides anything about a saga.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Config says where spans and metrics go. The zero value leaves that to the environment.
type Config struct {
	// SpanExporter takes the spans, each as it ends; for tests. Nil: the environment decides.
	SpanExporter sdktrace.SpanExporter

	// MetricReader reads the metrics; for tests. Nil: the environment decides.
	MetricReader metric.Reader

	// Sampler decides which sagas are traced. Nil: OTEL_TRACES_SAMPLER, by default every saga unless its caller's trace
	// isn't sampled.
	Sampler sdktrace.Sampler

	// Logger is told when exporting fails; OpenTelemetry knows one handler per process. Nil: OpenTelemetry's own stays.
	Logger *slog.Logger
}

// Telemetry makes the orchestrator's spans and metrics. All methods may be called concurrently, and on nil.
type Telemetry struct {
	// decide samples; its spans are never ended, so they go nowhere. emit makes the spans that are exported: what is
	// sampled was decided before, and stands in the anchor.
	decide, emit trace.Tracer

	metrics *metrics

	shutdown []func(context.Context) error
}

// New sets up what the environment asks for, by OpenTelemetry's standard variables:
//
//   - spans, when OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT is set;
//   - metrics, when OTEL_METRICS_EXPORTER, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT is set;
//   - neither when OTEL_SDK_DISABLED is "true"; not the one whose exporter is "none".
//
// It fails when a variable has a value that nobody understands, and names it. The caller calls [Telemetry.Shutdown].
func New(ctx context.Context, config Config) (*Telemetry, error) {
	t := &Telemetry{}
	if config.Logger != nil {
		logger := config.Logger
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
			logger.Warn("telemetry: can't export spans or metrics; sagas aren't affected", "error", err)
		}))
	}

	exporter, reader := config.SpanExporter, config.MetricReader
	var err error
	if exporter == nil && asked("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
		if exporter, err = autoexport.NewSpanExporter(ctx); err != nil {
			return nil, fmt.Errorf("telemetry: setting up the trace exporter that OTEL_TRACES_EXPORTER=%q and OTEL_EXPORTER_OTLP_* ask for: %w", os.Getenv("OTEL_TRACES_EXPORTER"), err)
		}
	}
	if reader == nil && asked("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") {
		if reader, err = autoexport.NewMetricReader(ctx); err != nil {
			return nil, errors.Join(
				fmt.Errorf("telemetry: setting up the metric exporter that OTEL_METRICS_EXPORTER=%q and OTEL_EXPORTER_OTLP_* ask for: %w", os.Getenv("OTEL_METRICS_EXPORTER"), err),
				shutdownExporter(ctx, exporter))
		}
	}
	if exporter == nil && reader == nil {
		return t, nil
	}

	res, err := newResource(ctx)
	if err != nil {
		return nil, errors.Join(err, shutdownExporter(ctx, exporter))
	}
	if exporter != nil {
		t.setUpTracing(exporter, res, config)
	}
	if reader != nil {
		provider := metric.NewMeterProvider(metric.WithReader(reader), metric.WithResource(res))
		t.shutdown = append(t.shutdown, provider.Shutdown)
		if t.metrics, err = newMetrics(provider.Meter(scopeName)); err != nil {
			return nil, errors.Join(err, t.Shutdown(ctx))
		}
	}
	return t, nil
}

func (t *Telemetry) setUpTracing(exporter sdktrace.SpanExporter, res *resource.Resource, config Config) {
	var sampling []sdktrace.TracerProviderOption
	if config.Sampler != nil {
		sampling = append(sampling, sdktrace.WithSampler(config.Sampler))
	}
	// Without a span processor, and with OTEL_TRACES_SAMPLER's sampler by default.
	t.decide = sdktrace.NewTracerProvider(sampling...).Tracer(scopeName)

	options := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(res),
		sdktrace.WithIDGenerator(wantedIDs{}),
		sdktrace.WithSampler(decided{}),
	}
	if config.SpanExporter != nil {
		options = append(options, sdktrace.WithSyncer(exporter))
	} else {
		options = append(options, sdktrace.WithBatcher(exporter, batching()...))
	}
	provider := sdktrace.NewTracerProvider(options...)
	t.emit = provider.Tracer(scopeName, trace.WithSchemaURL(semconv.SchemaURL))
	t.shutdown = append(t.shutdown, provider.Shutdown)
}

// batching returns the batching that the environment leaves open. What waits in a batch is lost when the process is
// killed, so batches are sent soon; and a burst of sagas must fit in the queue, for a span that doesn't is dropped.
func batching() []sdktrace.BatchSpanProcessorOption {
	var options []sdktrace.BatchSpanProcessorOption
	if os.Getenv("OTEL_BSP_SCHEDULE_DELAY") == "" {
		options = append(options, sdktrace.WithBatchTimeout(200*time.Millisecond))
	}
	if os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE") == "" {
		options = append(options, sdktrace.WithMaxQueueSize(1<<15))
	}
	return options
}

// asked returns whether the environment asks for one kind of telemetry.
func asked(exporterVariable, endpointVariable string) bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if exporter := os.Getenv(exporterVariable); exporter != "" {
		return exporter != "none"
	}
	return os.Getenv(endpointVariable) != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != ""
}

func newResource(ctx context.Context) (*resource.Resource, error) {
	res, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName(ServiceName)),
		resource.WithTelemetrySDK(),
		resource.WithHost(),    // nothing of this process alone: an anchor that is exported again by another one must be the same
		resource.WithFromEnv(), // last: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
	)
	if errors.Is(err, resource.ErrPartialResource) {
		return res, nil // e.g. a host without a name
	}
	if err != nil {
		return nil, fmt.Errorf("telemetry: reading OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return res, nil
}

// Tracing returns whether spans are exported at all.
func (t *Telemetry) Tracing() bool { return t != nil && t.emit != nil }

// Metering returns whether metrics are kept at all. What is only measured for them needn't be measured otherwise.
func (t *Telemetry) Metering() bool { return t != nil && t.metrics != nil }

// Shutdown exports what waits to be exported and stops. It takes as long as ctx allows.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	var errs []error
	for _, shutdown := range t.shutdown {
		errs = append(errs, shutdown(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("telemetry: exporting the last spans and metrics: %w", err)
	}
	return nil
}

func shutdownExporter(ctx context.Context, exporter sdktrace.SpanExporter) error {
	if exporter == nil {
		return nil
	}
	return exporter.Shutdown(ctx)
}

// decided samples what was decided to be sampled when the saga started: nothing else gets here.
type decided struct{}

func (decided) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
	if w, ok := p.ParentContext.Value(wantedKey{}).(*wanted); ok {
		result.Tracestate = w.state
	}
	return result
}

func (decided) Description() string { return "decided when the saga started" }

func sagaAttributes(saga, definition string) []attribute.KeyValue {
	return []attribute.KeyValue{KeySaga.String(saga), KeyDefinition.String(definition)}
}
