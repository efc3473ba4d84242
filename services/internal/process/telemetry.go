package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
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

// startTelemetry sets OpenTelemetry's global providers as the standard OTEL_* variables say. The returned function
// exports what is left and stops. Without an endpoint (OTEL_EXPORTER_OTLP_ENDPOINT, or the one for traces or metrics)
// and without OTEL_TRACES_EXPORTER or OTEL_METRICS_EXPORTER, no provider is set. OTEL_SERVICE_NAME overrides the
// service's name. W3C trace context is always propagated.
func startTelemetry(ctx context.Context, service string) (stop func(context.Context) error, err error) {
	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(
		propagation.TraceContext{}, propagation.Baggage{}))
	traces := anySet("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
	metrics := anySet("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_METRICS_EXPORTER")
	if !traces && !metrics {
		return func(context.Context) error { return nil }, nil
	}
	otel.SetErrorHandler(&onceHandler{seen: make(map[string]bool)})
	res, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", service)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
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
			return nil, fmt.Errorf(
				"setting up the export of traces: %w; check OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_*", err)
		}
		var batch []sdktrace.BatchSpanProcessorOption
		if os.Getenv("OTEL_BSP_SCHEDULE_DELAY") == "" {
			// People look at a trace while its saga is still running.
			batch = append(batch, sdktrace.WithBatchTimeout(time.Second))
		}
		provider := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(exporter, batch...))
		otel.SetTracerProvider(provider)
		stops = append(stops, provider.Shutdown)
	}
	if metrics {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf(
				"setting up the export of metrics: %w; check OTEL_METRICS_EXPORTER and OTEL_EXPORTER_OTLP_*", err),
				stop(ctx))
		}
		provider := sdkmetric.NewMeterProvider(sdkmetric.WithResource(res), sdkmetric.WithReader(reader))
		otel.SetMeterProvider(provider)
		stops = append(stops, provider.Shutdown)
	}
	return stop, nil
}

func anySet(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return os.Getenv(name) != "" })
}

// onceHandler logs each distinct error of OpenTelemetry once. Otherwise a collector that doesn't accept metrics would
// fill the log.
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
