package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// An export that failed and a span that didn't fit in the queue are told once. What was exported is confirmed.
func TestConfirm(t *testing.T) {
	var refuses atomic.Bool
	received := make(chan struct{}, 16)
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		received <- struct{}{}
		<-release
		if refuses.Load() {
			w.WriteHeader(http.StatusBadRequest) // it isn't repeated
		}
	}))
	defer server.Close()
	for _, v := range variables {
		t.Setenv(v, "")
	}
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", server.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000") // only Confirm exports, and a batch that is full
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
	tele, err := telemetry.New(t.Context(), telemetry.Config{})
	if err != nil {
		t.Fatal(err)
	}
	emit := func(anchor *treatyv1.TraceAnchor) {
		tele.EmitAnchor(anchor, telemetry.SagaStart{Saga: saga, Definition: definition, Time: begin})
	}
	anchor := tele.NewAnchor(t.Context(), saga, definition)
	emit(anchor)
	<-received
	emit(anchor)
	emit(anchor) // one is being exported, one waits
	close(release)
	if tele.Confirm(t.Context()) {
		t.Error("a span that didn't fit in the queue is confirmed")
	}
	emit(anchor)
	if !tele.Confirm(t.Context()) {
		t.Error("a span that was exported isn't confirmed")
	}
	refuses.Store(true)
	emit(anchor)
	if tele.Confirm(t.Context()) {
		t.Error("a span that was refused is confirmed")
	}
	refuses.Store(false)
	if !tele.Confirm(t.Context()) || tele.EndedSpans() != 5 {
		t.Errorf("nothing was lost since, and %d spans have ended, want 5", tele.EndedSpans())
	}
	if err := tele.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	var off *telemetry.Telemetry
	if !off.Confirm(t.Context()) || off.EndedSpans() != 0 {
		t.Error("spans were lost while tracing is off")
	}
}
