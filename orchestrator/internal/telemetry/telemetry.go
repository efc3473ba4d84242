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

// Config configures a Telemetry. With the zero value, the environment decides.
type Config struct {
	// SpanExporter exports the spans in batches. By default the environment decides, unless there are SpanProcessors.
	SpanExporter sdktrace.SpanExporter

	// Unbatched exports each span when it ends, for tests.
	Unbatched bool

	// SpanProcessors see each span before the exporter does. They aren't shut down, but flushed.
	SpanProcessors []sdktrace.SpanProcessor

	// MetricReader reads the metrics. By default the environment decides.
	MetricReader metric.Reader

	// Resource describes the program in spans and metrics. By default the environment decides.
	Resource *resource.Resource

	// Sampler decides which sagas are traced. By default OTEL_TRACES_SAMPLER decides; without it, every saga is traced
	// unless its caller's trace isn't sampled.
	Sampler sdktrace.Sampler

	// Logger logs failed exports. OpenTelemetry has one error handler for the whole process, which this replaces. By
	// default it stays.
	Logger *slog.Logger
}

// Telemetry records the orchestrator's spans and metrics. All methods may be called concurrently, and on nil.
type Telemetry struct {
	// sampling decides whether a saga is sampled; its spans never end, so they aren't exported. exporting makes the
	// spans that are exported: those of sagas whose anchors say that they are sampled.
	sampling, exporting trace.Tracer

	// followsUnsampled says that the sampler samples no saga whose caller's trace isn't sampled. It then isn't asked.
	followsUnsampled bool

	// spans knows which spans were exported. It is nil if none are.
	spans *confirmation

	metrics *metrics

	shutdown []func(context.Context) error
}

// New returns a Telemetry as OpenTelemetry's standard environment variables configure it:
//
//   - Spans are exported if OTEL_TRACES_EXPORTER, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT is
//     set.
//   - Metrics are exported if OTEL_METRICS_EXPORTER, OTEL_EXPORTER_OTLP_METRICS_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT
//     is set.
//   - Neither is exported if OTEL_SDK_DISABLED is "true". A kind whose exporter is "none" isn't exported.
//
// It returns an error if a variable has an unknown value; the error names the variable. The caller must call
// [Telemetry.Shutdown].
func New(ctx context.Context, config Config) (*Telemetry, error) {
	t := &Telemetry{}
	if config.Logger != nil {
		logger := config.Logger
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
			logger.Warn("telemetry: exporting spans or metrics failed; sagas aren't affected", "error", err)
		}))
	}

	exporter, reader := config.SpanExporter, config.MetricReader
	var err error
	if exporter == nil && len(config.SpanProcessors) > 0 {
		exporter = noExporter{}
	}
	if exporter == nil && enabled("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
		if exporter, err = autoexport.NewSpanExporter(ctx); err != nil {
			return nil, exporterError("span", "OTEL_TRACES_EXPORTER", err)
		}
	}
	if reader == nil && enabled("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") {
		if reader, err = autoexport.NewMetricReader(ctx); err != nil {
			err = exporterError("metric", "OTEL_METRICS_EXPORTER", err)
			return nil, errors.Join(err, shutdownExporter(ctx, exporter))
		}
	}
	if exporter == nil && reader == nil {
		return t, nil
	}

	if exporter != nil {
		// It has neither the host nor the process: a span that another one exports again must be the same.
		res, err := newResource(ctx, config)
		if err != nil {
			return nil, errors.Join(err, shutdownExporter(ctx, exporter))
		}
		t.setUpTracing(exporter, res, config)
	}
	if reader != nil {
		res, err := newResource(ctx, config, resource.WithHost())
		if err != nil {
			return nil, errors.Join(err, t.Shutdown(ctx), reader.Shutdown(ctx))
		}
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
	// It has no span processor. Its default sampler is that of OTEL_TRACES_SAMPLER.
	t.sampling = sdktrace.NewTracerProvider(sampling...).Tracer(scopeName)
	t.followsUnsampled = followsUnsampled(config.Sampler)

	options := []sdktrace.TracerProviderOption{
		sdktrace.WithResource(res),
		sdktrace.WithIDGenerator(presetIDs{}),
		sdktrace.WithSampler(alreadySampled{}),
	}
	for _, processor := range config.SpanProcessors {
		options = append(options, sdktrace.WithSpanProcessor(shared{processor}))
	}
	t.spans = &confirmation{exporter: exporter, queue: int64(queueSize()), shared: config.SpanProcessors}
	if _, none := exporter.(noExporter); none || config.Unbatched {
		t.spans.SpanProcessor = sdktrace.NewSimpleSpanProcessor(confirmingExporter{t.spans})
	} else {
		t.spans.SpanProcessor = sdktrace.NewBatchSpanProcessor(confirmingExporter{t.spans}, batching()...)
	}
	options = append(options, sdktrace.WithSpanProcessor(t.spans))
	provider := sdktrace.NewTracerProvider(options...)
	t.exporting = provider.Tracer(scopeName, trace.WithSchemaURL(semconv.SchemaURL))
	t.shutdown = append(t.shutdown, provider.Shutdown)
}

// followsUnsampled returns whether the sampler certainly samples nothing below a remote span that isn't sampled. A
// sampler of the embedding program may do anything.
func followsUnsampled(custom sdktrace.Sampler) bool {
	if custom != nil {
		return false
	}
	switch strings.ToLower(strings.TrimSpace(os.Getenv("OTEL_TRACES_SAMPLER"))) {
	case "always_on", "traceidratio":
		return false
	default: // the others follow the parent, and so does the default for an unknown name
		return true
	}
}

// batching returns the options for batches that the environment doesn't set. Spans in a batch are lost when the
// process is killed, so batches are sent soon.
func batching() []sdktrace.BatchSpanProcessorOption {
	options := []sdktrace.BatchSpanProcessorOption{sdktrace.WithMaxQueueSize(queueSize())}
	if os.Getenv("OTEL_BSP_SCHEDULE_DELAY") == "" {
		options = append(options, sdktrace.WithBatchTimeout(200*time.Millisecond))
	}
	return options
}

func exporterError(kind, variable string, err error) error {
	return fmt.Errorf("telemetry: creating the %s exporter from %s=%q and OTEL_EXPORTER_OTLP_*: %w",
		kind, variable, os.Getenv(variable), err)
}

// enabled returns whether the environment enables spans or metrics.
func enabled(exporterVariable, endpointVariable string) bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if exporter := os.Getenv(exporterVariable); exporter != "" {
		return exporter != "none"
	}
	return os.Getenv(endpointVariable) != "" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != ""
}

func newResource(
	ctx context.Context, config Config, options ...resource.Option,
) (*resource.Resource, error) {
	if config.Resource != nil {
		return config.Resource, nil
	}
	options = append(options,
		resource.WithAttributes(semconv.ServiceName(serviceName)),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // last, so that OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
	)
	res, err := resource.New(ctx, options...)
	if errors.Is(err, resource.ErrPartialResource) {
		return res, nil // for example because the host has no name
	}
	if err != nil {
		return nil, fmt.Errorf("telemetry: reading OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return res, nil
}

// Tracing returns whether spans are exported.
func (t *Telemetry) Tracing() bool { return t != nil && t.exporting != nil }

// keepsUnsampled returns whether the anchor of a saga whose caller's trace isn't sampled follows from the caller alone.
func (t *Telemetry) keepsUnsampled() bool { return t.Tracing() && t.followsUnsampled }

// Metering returns whether metrics are recorded. If not, the caller need not measure durations for them.
func (t *Telemetry) Metering() bool { return t != nil && t.metrics != nil }

// Shutdown exports the last spans and metrics and stops. It returns an error if that fails before ctx ends.
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

// noExporter exports nothing: the span processors of the embedding program do.
type noExporter struct{}

func (noExporter) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }

func (noExporter) Shutdown(context.Context) error { return nil }

// shared is a span processor that the embedding program shuts down.
type shared struct{ sdktrace.SpanProcessor }

// Shutdown flushes the processor.
func (s shared) Shutdown(ctx context.Context) error { return s.ForceFlush(ctx) }

// alreadySampled samples every span: only those of sagas that are sampled get here.
type alreadySampled struct{}

func (alreadySampled) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	result := sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
	if w, ok := p.ParentContext.Value(presetSpanKey{}).(*presetSpan); ok {
		result.Tracestate = w.state
	}
	return result
}

func (alreadySampled) Description() string { return "decided when the saga started" }

func sagaAttributes(saga, definition string) []attribute.KeyValue {
	return []attribute.KeyValue{keySaga.String(saga), keyDefinition.String(definition)}
}
