package orchestrator

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// A recovered saga's anchor is exported again, the same in every bit: a killed process may have lost the first one.
func TestAnchorIsTheSameAfterRecovery(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	reader := metric.NewManualReader()
	tel, err := telemetry.New(t.Context(), telemetry.Config{SpanExporter: spans, MetricReader: reader,
		Sampler: sdktrace.AlwaysSample()})
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{telemetry: tel}
	if err := tel.ObserveOpenSagas(o.open.Load); err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	saga := &machine.Saga{
		ID: "a1", CreateTime: began, State: treatyv1.SagaState_SAGA_STATE_RUNNING,
		Started: &treatyv1.SagaStarted{Definition: "acme.v1.Sagas/Do",
			Trace: tel.NewAnchor(t.Context(), "sagas/a1", "acme.v1.Sagas/Do")},
	}
	o.SagaStarted(saga)
	first := spans.GetSpans().Snapshots()
	spans.Reset()

	restarted := &observer{telemetry: tel}
	restarted.SagaRecovered(saga)
	again := spans.GetSpans().Snapshots()
	if len(first) != 1 || len(again) != 1 {
		t.Fatalf("%d and %d spans", len(first), len(again))
	}
	describe := func(s sdktrace.ReadOnlySpan) string {
		return fmt.Sprint(s.Name(), s.SpanContext(), s.Parent(), s.StartTime(), s.EndTime(), s.Attributes(), s.Status())
	}
	if diff := cmp.Diff(describe(first[0]), describe(again[0])); diff != "" {
		t.Errorf("(-first +again):\n%s", diff)
	}
	spans.Reset()
	saga.State, saga.EndTime = treatyv1.SagaState_SAGA_STATE_SUCCEEDED, began.Add(time.Second)
	o.SagaSuspended(saga, treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC)
	o.GroupCommitted(1, time.Millisecond)
	if got := openSagas(t, reader); got != 1 {
		t.Errorf("%d open sagas", got)
	}
	o.SagaEnded(saga)
	if got := openSagas(t, reader); got != 0 {
		t.Errorf("%d open sagas", got)
	}
	end := spans.GetSpans().Snapshots()
	if len(end) != 1 || end[0].Parent().SpanID() != first[0].SpanContext().SpanID() {
		t.Errorf("the end's spans are %v", end)
	}
}

func openSagas(t *testing.T, reader metric.Reader) int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if gauge, ok := m.Data.(metricdata.Gauge[int64]); ok && m.Name == "treaty.sagas.open" {
				return gauge.DataPoints[0].Value
			}
		}
	}
	t.Fatal("no such metric")
	return 0
}
