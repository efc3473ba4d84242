package telemetry

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync/atomic"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// defaultQueue is how many spans may wait to be exported. A burst of sagas must fit.
const defaultQueue = 1 << 15

// queueSize returns how many spans may wait to be exported.
func queueSize() int {
	if n, err := strconv.Atoi(os.Getenv("OTEL_BSP_MAX_QUEUE_SIZE")); err == nil && n > 0 {
		return n
	}
	return defaultQueue
}

// confirmation knows whether all spans that have ended were exported. It is a span processor and an exporter, in front
// of those that do the work.
type confirmation struct {
	sdktrace.SpanProcessor

	exporter sdktrace.SpanExporter
	shared   []sdktrace.SpanProcessor // those of the embedding program
	queue    int64                    // how many spans may wait
	waiting  atomic.Int64             // spans that were neither exported nor lost
	ended    atomic.Int64             // all spans
	lost     atomic.Bool              // a span was lost since the last Confirm
}

// ForceFlush exports what waits, here and in the processors of the embedding program.
func (c *confirmation) ForceFlush(ctx context.Context) error {
	errs := []error{c.SpanProcessor.ForceFlush(ctx)}
	for _, processor := range c.shared {
		errs = append(errs, processor.ForceFlush(ctx))
	}
	return errors.Join(errs...)
}

// OnEnd hands a span over. A span that doesn't fit in the queue is lost here, since the queue itself wouldn't tell.
func (c *confirmation) OnEnd(span sdktrace.ReadOnlySpan) {
	c.ended.Add(1)
	if c.waiting.Add(1) > c.queue {
		c.waiting.Add(-1)
		c.lost.Store(true)
		return
	}
	c.SpanProcessor.OnEnd(span)
}

// confirmingExporter is the exporter of a confirmation.
type confirmingExporter struct{ *confirmation }

// ExportSpans exports spans.
func (c confirmingExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := c.exporter.ExportSpans(ctx, spans)
	if err != nil {
		c.lost.Store(true)
	}
	c.waiting.Add(-int64(len(spans)))
	return err
}

// Shutdown shuts the exporter down.
func (c confirmingExporter) Shutdown(ctx context.Context) error { return c.exporter.Shutdown(ctx) }

// EndedSpans counts the spans that have ended in this process.
func (t *Telemetry) EndedSpans() int64 {
	if !t.Tracing() {
		return 0
	}
	return t.spans.ended.Load()
}

// Confirm exports the spans that have ended. It returns whether all were exported that had ended before the call and
// after the last one. A span isn't if its export failed, or if it didn't fit in the queue.
func (t *Telemetry) Confirm(ctx context.Context) bool {
	if !t.Tracing() {
		return true
	}
	err := t.spans.ForceFlush(ctx)
	return !t.spans.lost.Swap(false) && err == nil
}
