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
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// The spans of a recovered saga are exported again, the same in every bit: a killed process may have lost the first
// ones. That holds for a compensation that a person has had sent again with another request, and for the first end of a
// child that is compensated afterwards.
func TestSpansAreTheSameAfterRecovery(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	reader := metric.NewManualReader()
	tel, err := telemetry.New(t.Context(), telemetry.Config{Unbatched: true, SpanExporter: spans, MetricReader: reader,
		Sampler: sdktrace.AlwaysSample()})
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := contract.Load(protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	o := &observer{telemetry: tel, catalog: catalog}
	if err := tel.ObserveOpenSagas(o.open.Load); err != nil {
		t.Fatal(err)
	}
	began := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	saga := &machine.Saga{ID: "a1"}
	turn := func(after time.Duration, records ...*treatyv1.Record) {
		t.Helper()
		if err := saga.Fold(&treatyv1.Turn{Time: timestamppb.New(began.Add(after)), Records: records}); err != nil {
			t.Fatal(err)
		}
	}
	turn(0, &treatyv1.Record{Kind: &treatyv1.Record_SagaStarted{SagaStarted: &treatyv1.SagaStarted{
		Definition: "acme.v1.Sagas/Do", Trace: tel.NewAnchor(t.Context(), "sagas/a1", "acme.v1.Sagas/Do"),
	}}}, &treatyv1.Record{Kind: &treatyv1.Record_StepScheduled{StepScheduled: &treatyv1.StepScheduled{
		Step: "1", Method: "acme.v1.Service/Do", Kind: treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE,
		Compensation: &treatyv1.CompensationPlan{Method: "acme.v1.Service/Undo"},
	}}})
	o.SagaStarted(saga)
	o.CommandScheduled(saga, "1", engine.Action)
	turn(time.Second, &treatyv1.Record{Kind: &treatyv1.Record_StepDone{StepDone: &treatyv1.StepDone{Step: "1"}}},
		&treatyv1.Record{Kind: &treatyv1.Record_SagaSucceeded{SagaSucceeded: &treatyv1.SagaSucceeded{}}})
	o.SagaEnded(saga)
	turn(2*time.Second, &treatyv1.Record{Kind: &treatyv1.Record_CompensationDecided{}}) // for its parent
	o.SagaReopened(saga)
	for _, after := range []time.Duration{0, time.Minute} {
		turn(after, &treatyv1.Record{Kind: &treatyv1.Record_CompensationScheduled{
			CompensationScheduled: &treatyv1.CompensationScheduled{Step: "1"},
		}})
		o.CommandScheduled(saga, "1", engine.Compensation)
	}
	o.CommandScheduled(saga, "2", engine.Action) // of an earlier round
	first := spans.GetSpans().Snapshots()
	spans.Reset()

	restarted := &observer{telemetry: tel, catalog: catalog}
	restarted.SagaRecovered(saga)
	again := spans.GetSpans().Snapshots()
	if len(first) != 5 || len(again) != 4 {
		t.Fatalf("%d and %d spans, want those of the saga, the action, the compensation and the first end",
			len(first), len(again))
	}
	describe := func(s sdktrace.ReadOnlySpan) string {
		return fmt.Sprint(s.Name(), s.SpanContext(), s.Parent(), s.StartTime(), s.EndTime(), s.Attributes(), s.Links(),
			s.Status())
	}
	for i, of := range []sdktrace.ReadOnlySpan{again[0], again[1], again[3], again[2], again[2]} {
		if diff := cmp.Diff(describe(first[i]), describe(of)); diff != "" {
			t.Errorf("(-first +again):\n%s", diff)
		}
	}
	spans.Reset()
	saga.State, saga.EndTime = treatyv1.SagaState_SAGA_STATE_COMPENSATED, began.Add(3*time.Second)
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
	if len(end) != 1 || end[0].Parent().SpanID() != first[0].SpanContext().SpanID() ||
		end[0].SpanContext().SpanID() == first[2].SpanContext().SpanID() {
		t.Errorf("the spans of the second end are %v", end)
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
