package participant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Telemetry sets OpenTelemetry's global providers from the standard OTEL_* variables and returns a function that exports
// what is left and stops. Without OTEL_EXPORTER_OTLP_ENDPOINT (or the one for traces or metrics alone) and without
// OTEL_TRACES_EXPORTER or OTEL_METRICS_EXPORTER, nothing is set and nothing exported. OTEL_SERVICE_NAME takes the place of
// the given name. W3C trace context is always passed on. Call it before NewServer, once per process; stop after Serve has
// returned, with a context that bounds the export.
func Telemetry(ctx context.Context, service string) (stop func(context.Context) error, err error) {
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	traces := anySet("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
	metrics := anySet("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_METRICS_EXPORTER")
	if !traces && !metrics {
		return func(context.Context) error { return nil }, nil
	}
	otel.SetErrorHandler(&onceHandler{seen: make(map[string]bool)})
	res, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", service)), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("setting up telemetry: reading OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	var stops []func(context.Context) error
	stop = func(ctx context.Context) error {
		var errs []error
		for _, stop := range stops {
			errs = append(errs, stop(ctx))
		}
		return errors.Join(errs...)
	}
	if traces {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("setting up the export of traces: %w; see OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_*", err)
		}
		var batch []sdktrace.BatchSpanProcessorOption
		if os.Getenv("OTEL_BSP_SCHEDULE_DELAY") == "" {
			// A trace is looked at while its saga still runs.
			batch = append(batch, sdktrace.WithBatchTimeout(time.Second))
		}
		provider := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(exporter, batch...))
		otel.SetTracerProvider(provider)
		stops = append(stops, provider.Shutdown)
	}
	if metrics {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("setting up the export of metrics: %w; see OTEL_METRICS_EXPORTER and OTEL_EXPORTER_OTLP_*", err), stop(ctx))
		}
		provider := sdkmetric.NewMeterProvider(sdkmetric.WithResource(res), sdkmetric.WithReader(reader))
		otel.SetMeterProvider(provider)
		stops = append(stops, provider.Shutdown)
	}
	return stop, nil
}

// tracing reports whether a tracer provider is set that makes spans.
func tracing() bool {
	// The span is never ended, so it is never exported.
	_, span := otel.Tracer("github.com/treatyhq/treaty/participant").Start(context.Background(), "probe")
	return span.SpanContext().IsValid()
}

func anySet(names ...string) bool {
	for _, name := range names {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

// onceHandler logs each different error of OpenTelemetry's own once: a collector that takes no metrics would otherwise fill
// the log.
type onceHandler struct {
	mu   sync.Mutex
	seen map[string]bool
}

// Handle logs an error unless it was logged before.
func (h *onceHandler) Handle(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if text := err.Error(); !h.seen[text] && len(h.seen) < 100 {
		h.seen[text] = true
		slog.Warn("telemetry", "error", text)
	}
}
