package dispatch

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// The span of an attempt is exported when it ends, with the outcome. Its parent, the step's span, is the parent of the
// participant's spans, too.
func TestAttemptIsTraced(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tele, err := telemetry.New(t.Context(), telemetry.Config{Unbatched: true, SpanExporter: exporter})
	if err != nil {
		t.Fatal(err)
	}
	var parent []string
	s := serve(t, anyPort, func(ctx context.Context, request []byte) ([]byte, error) {
		parent = received(ctx).Get(telemetry.TraceparentKey)
		return request, nil
	})
	d := dispatcher(t, s.addr, func(c *testConfig) { c.Telemetry = tele })
	call := attempt()
	call.Trace = tele.NewAnchor(t.Context(), call.Saga, "acme.test.v1.TestSagas/Do")
	d.Attempt(t.Context(), call)
	spans := exporter.GetSpans()
	if len(spans) != 1 || spans[0].Name != testMethod {
		t.Fatalf("got %v", spans)
	}
	sc := spans[0].Parent
	want := "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-01"
	if len(parent) != 1 || parent[0] != want {
		t.Errorf("the participant received %q, want %q", parent, want)
	}
	outcome := ""
	for _, a := range spans[0].Attributes {
		if a.Key == "treaty.outcome" {
			outcome = a.Value.AsString()
		}
	}
	if outcome != "done" {
		t.Errorf("outcome %q", outcome)
	}
}
