package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// variables are the environment variables that configure telemetry.
var variables = []string{
	"OTEL_SDK_DISABLED", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES",
	"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
	"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_TRACES_SAMPLER",
}

func TestEnvironment(t *testing.T) {
	endpoint := func(variable, value string) map[string]string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", variable: value}
	}
	for _, test := range []struct {
		name              string
		env               map[string]string
		tracing, metering bool
	}{
		{"nothing", nil, false, false},
		{"an endpoint", endpoint("OTEL_SDK_DISABLED", ""), true, true},
		{"a traces endpoint", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h:1"}, true, false},
		{"a metrics endpoint", map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h:1"}, false, true},
		{"no metrics", endpoint("OTEL_METRICS_EXPORTER", "none"), true, false},
		{"no traces", endpoint("OTEL_TRACES_EXPORTER", "none"), false, true},
		{"an exporter", map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true, false},
		{"disabled", endpoint("OTEL_SDK_DISABLED", "true"), false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, v := range variables {
				t.Setenv(v, test.env[v])
			}
			tele, err := telemetry.New(t.Context(), telemetry.Config{Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			if tele.Tracing() != test.tracing || tele.Metering() != test.metering {
				t.Errorf("tracing %v, metering %v", tele.Tracing(), tele.Metering())
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // no server listens there
			_ = tele.Shutdown(ctx)
		})
	}
}

func TestUnknownExporter(t *testing.T) {
	for _, variable := range []string{"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"} {
		t.Run(variable, func(t *testing.T) {
			for _, v := range variables {
				t.Setenv(v, "")
			}
			t.Setenv(variable, "carrier-pigeon")
			want := variable + `="carrier-pigeon"`
			_, err := telemetry.New(t.Context(), telemetry.Config{})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Shutdown exports the last spans over OTLP, with the configured service name.
func TestExportOverOTLP(t *testing.T) {
	var got collector.ExportTraceServiceRequest
	var path atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, &got)
		}
		if err != nil {
			t.Error(err)
		}
		path.Store(r.URL.Path)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer server.Close()
	for _, service := range []string{"", "my-orchestrator"} {
		for _, v := range variables {
			t.Setenv(v, "")
		}
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
		t.Setenv("OTEL_METRICS_EXPORTER", "none")
		t.Setenv("OTEL_SERVICE_NAME", service)
		tele, err := telemetry.New(t.Context(), telemetry.Config{})
		if err != nil {
			t.Fatal(err)
		}
		anchor := tele.NewAnchor(t.Context(), saga, definition)
		tele.EmitAnchor(anchor, telemetry.SagaStart{Saga: saga, Definition: definition, Time: begin})
		if err := tele.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if path.Load() != "/v1/traces" || len(got.GetResourceSpans()) != 1 {
			t.Fatalf("got %v at %v", &got, path.Load())
		}
		name := ""
		for _, a := range got.GetResourceSpans()[0].GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				name = a.GetValue().GetStringValue()
			}
		}
		want := service
		if want == "" {
			want = "treaty-orchestrator"
		}
		if name != want {
			t.Errorf("service.name is %q, want %q", name, want)
		}
	}
}

func TestSamplerFromEnvironment(t *testing.T) {
	for sampler, want := range map[string]uint32{"": 1, "always_off": 0, "parentbased_always_off": 0, "always_on": 1} {
		for _, v := range variables {
			t.Setenv(v, "")
		}
		t.Setenv("OTEL_TRACES_SAMPLER", sampler)
		t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
		tele, err := telemetry.New(t.Context(), telemetry.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if got := tele.NewAnchor(t.Context(), saga, definition).GetFlags() & 1; got != want {
			t.Errorf("%q: sampled is %d, want %d", sampler, got, want)
		}
		if err := tele.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	tele, err := telemetry.New(t.Context(), telemetry.Config{MetricReader: reader})
	if err != nil {
		t.Fatal(err)
	}
	tele.SagaStarted(definition)
	tele.SagaEnded(definition, treatyv1.SagaState_SAGA_STATE_SUCCEEDED, time.Second)
	tele.SagaSuspended(treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC)
	tele.AttemptEnded(change, treatyv1.Outcome_OUTCOME_DONE, time.Millisecond)
	tele.AttemptEnded(change, treatyv1.Outcome_OUTCOME_DONE, time.Millisecond)
	tele.Committed(12, time.Millisecond)
	tele.BreakerOpened("h:1")
	tele.DrivingBegan()
	tele.DrivingEnded()
	tele.CodeLeft()
	tele.CodeLeft()
	tele.CodeEnded()
	if err := tele.ObserveOpenSagas(func() int64 { return 5 }); err != nil {
		t.Fatal(err)
	}
	loads := []telemetry.Load{{Target: "h:1", Limit: 8, InFlight: 7, Waiting: 6, ParkedMethods: 5}}
	if err := tele.ObserveLoads(func() []telemetry.Load { return loads }); err != nil {
		t.Fatal(err)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range all.ScopeMetrics[0].Metrics {
		names = append(names, m.Name)
		if m.Name == "treaty.code.left" {
			if point := m.Data.(metricdata.Sum[int64]).DataPoints[0]; point.Value != 1 {
				t.Errorf("got %v", point)
			}
		}
		if want, is := map[string]int64{
			"treaty.participant.limit": 8, "treaty.participant.in_flight": 7, "treaty.participant.waiting": 6,
			"treaty.participant.parked_methods": 5,
		}[m.Name]; is {
			point := m.Data.(metricdata.Gauge[int64]).DataPoints[0]
			if target, _ := point.Attributes.Value("treaty.target"); point.Value != want || target.AsString() != "h:1" {
				t.Errorf("%s: got %v, want %d", m.Name, point, want)
			}
		}
		if m.Name == "treaty.attempts" {
			point := m.Data.(metricdata.Sum[int64]).DataPoints[0]
			method, _ := point.Attributes.Value("rpc.method")
			if point.Value != 2 || method.AsString() != change {
				t.Errorf("got %v", point)
			}
		}
	}
	sort.Strings(names)
	want := []string{
		"treaty.attempt.duration", "treaty.attempts", "treaty.breaker.open", "treaty.code.left",
		"treaty.commit.duration", "treaty.commit.group.size", "treaty.driving", "treaty.participant.in_flight",
		"treaty.participant.limit", "treaty.participant.parked_methods", "treaty.participant.waiting",
		"treaty.saga.duration", "treaty.sagas.ended",
		"treaty.sagas.open", "treaty.sagas.started", "treaty.sagas.suspended",
	}
	sort.Strings(want)
	if strings.Join(names, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", names, want)
	}
}

func TestLogHandler(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(telemetry.NewLogHandler(slog.NewJSONHandler(&out, nil))).With("a", 1)
	ctx, _ := caller(trace.FlagsSampled)
	logger.InfoContext(ctx, "hello")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"trace_id": "01020300000000000000000000000000", "span_id": "0405060000000000", "a": 1.0,
	} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
	out.Reset()
	logger.Info("hello")
	if strings.Contains(out.String(), "trace_id") {
		t.Errorf("a record without a span has a trace: %s", out.String())
	}
}
