//go:build proof

package jaegertest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/internal/jaegertest"
)

func TestSpansArrive(t *testing.T) {
	jaeger := jaegertest.Start(t)
	const traceID = "0af7651916cd43dd8448eb211c80319c"
	post(t, jaeger.OTLPHTTPEndpoint+"/v1/traces", `{"resourceSpans": [{
		"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "customer"}}]},
		"scopeSpans": [{"spans": [
			{"traceId": "`+traceID+`", "spanId": "b7ad6b7169203331", "name": "saga", "kind": 1,
				"startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000001000000000"},
			{"traceId": "`+traceID+`", "spanId": "00f067aa0ba902b7", "parentSpanId": "b7ad6b7169203331",
				"name": "attempt", "kind": 3,
				"startTimeUnixNano": "1700000000100000000", "endTimeUnixNano": "1700000000200000000",
				"links": [{"traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "53995c3f42cd8ad8"}],
				"attributes": [{"key": "treaty.step", "value": {"stringValue": "3"}}]}
		]}]
	}]}`)

	trace := jaeger.Trace(t, traceID, 2)
	if len(trace.Orphans()) != 0 || len(trace.Roots()) != 1 {
		t.Fatalf("got %+v, want one root and no orphans", trace)
	}
	attempt := trace.Spans[1]
	if attempt.Name != "attempt" || attempt.Service != "customer" || attempt.Tags["treaty.step"] != "3" ||
		len(attempt.Links) != 1 {
		t.Errorf("got %+v, want the attempt with its tag and link", attempt)
	}
}

// TestIdenticalSpans exports spans twice, as an orchestrator does after a crash. Jaeger shows a span once if both are
// the same, and warns if they differ.
func TestIdenticalSpans(t *testing.T) {
	jaeger := jaegertest.Start(t)
	const traceID = "1af7651916cd43dd8448eb211c80319c"
	send := func(end string) {
		post(t, jaeger.OTLPHTTPEndpoint+"/v1/traces", `{"resourceSpans": [{
			"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "treaty-orchestrator"}}]},
			"scopeSpans": [{"scope": {"name": "treaty"}, "spans": [
				{"traceId": "`+traceID+`", "spanId": "b7ad6b7169203331", "name": "saga", "kind": 1,
					"startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "`+end+`",
					"links": [{"traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "spanId": "53995c3f42cd8ad8"}],
					"attributes": [{"key": "treaty.step", "value": {"stringValue": "3"}}]}
			]}]
		}]}`)
	}
	for range 2 {
		send("1700000000000001000")
	}
	trace := jaeger.Trace(t, traceID, 1)
	if len(trace.Spans) != 1 || len(trace.Spans[0].Warnings) != 0 {
		t.Fatalf("got %+v, want one span without warnings", trace)
	}
	send("1700000000000002000")
	if trace = jaeger.Trace(t, traceID, 2); len(trace.Spans) != 2 || !strings.Contains(
		strings.Join(append(trace.Spans[0].Warnings, trace.Spans[1].Warnings...), ""), "duplicate span IDs") {
		t.Errorf("got %+v, want two spans and a warning", trace)
	}
}

func post(t *testing.T, url, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("send spans: %v", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("send spans: Jaeger answered %s", response.Status)
	}
}
