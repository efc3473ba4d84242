package jaegertest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"testing"
	"time"
)

const traceTimeout = 30 * time.Second

// Trace is a trace, as Jaeger shows it.
type Trace struct {
	// ID is 32 hexadecimal digits.
	ID string

	// Spans are in the order in which they started.
	Spans []Span
}

// Span is one span of a trace.
type Span struct {
	// ID is 16 hexadecimal digits.
	ID string

	// Parent is the ID of the parent, or "" for a root.
	Parent string

	// Links are the IDs of linked spans, in this trace or in another one.
	Links []string

	// Service is the name of the service that sent the span.
	Service string

	// Name is the name of the span.
	Name string

	// Start is the start time, to the microsecond.
	Start time.Time

	// Duration is the duration, to the microsecond.
	Duration time.Duration

	// Tags are the attributes, and the tags that Jaeger adds for the kind and status: "span.kind", "error",
	// "otel.status_code".
	Tags map[string]string

	// Warnings are the problems that Jaeger found, e.g. two spans with the same ID.
	Warnings []string
}

// Orphans returns the spans whose parent isn't in the trace. A complete trace has none.
func (t *Trace) Orphans() []Span {
	known := make(map[string]bool)
	for _, span := range t.Spans {
		known[span.ID] = true
	}
	var orphans []Span
	for _, span := range t.Spans {
		if span.Parent != "" && !known[span.Parent] {
			orphans = append(orphans, span)
		}
	}
	return orphans
}

// Roots returns the spans without a parent. A complete trace has one.
func (t *Trace) Roots() []Span {
	return slices.DeleteFunc(slices.Clone(t.Spans), func(span Span) bool { return span.Parent != "" })
}

// Named returns the spans with a name, in the order in which they started.
func (t *Trace) Named(name string) []Span {
	return slices.DeleteFunc(slices.Clone(t.Spans), func(span Span) bool { return span.Name != name })
}

// Trace waits until Jaeger has at least the given number of spans of a trace, and returns the trace. It fails the test
// after 30 seconds.
func (j *Jaeger) Trace(t testing.TB, traceID string, spans int) *Trace {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), traceTimeout)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	address := j.QueryURL + "/api/traces/" + traceID
	for {
		var found *Trace
		body, err := j.get(ctx, address)
		if err == nil {
			found, err = parse(body)
		}
		if err == nil && len(found.Spans) >= spans {
			return found
		}
		select {
		case <-ctx.Done():
			if err != nil {
				t.Fatalf("read trace %s: %v", traceID, err)
			}
			t.Fatalf("trace %s has %d spans after %v, want %d; see %s", traceID, len(found.Spans), traceTimeout, spans,
				address)
		case <-ticker.C:
		}
	}
}

// maxTraces is how many traces Traces returns of a service.
const maxTraces = 1500

// Traces returns all traces that Jaeger has now and that began within the last hour, sorted by their first spans. It
// fails the test if there are more than 1,500 of a service.
func (j *Jaeger) Traces(t testing.TB) []*Trace {
	t.Helper()
	var services struct {
		Data []string `json:"data"`
	}
	body, err := j.get(t.Context(), j.QueryURL+"/api/services")
	if err == nil {
		err = json.Unmarshal(body, &services)
	}
	if err != nil {
		t.Fatalf("list the services: %v", err)
	}
	found := make(map[string]*Trace)
	for _, service := range services.Data {
		query := url.Values{"service": {service}, "limit": {strconv.Itoa(maxTraces)}}
		body, err := j.get(t.Context(), j.QueryURL+"/api/traces?"+query.Encode())
		var traces []*Trace
		if err == nil {
			traces, err = parseAll(body)
		}
		if err != nil {
			t.Fatalf("read the traces of %s: %v", service, err)
		}
		if len(traces) >= maxTraces {
			t.Fatalf("%s has more than %d traces", service, maxTraces)
		}
		for _, trace := range traces {
			found[trace.ID] = trace
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b *Trace) int {
		return cmp.Or(a.Spans[0].Start.Compare(b.Spans[0].Start), cmp.Compare(a.ID, b.ID))
	})
}

func (j *Jaeger) get(ctx context.Context, address string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask Jaeger: %w", err)
	}
	response, err := j.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask Jaeger: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("read Jaeger's answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s: %s", address, response.Status, body)
	}
	return body, nil
}

// answer is the answer of /api/traces/{id}.
type answer struct {
	Data []storedTrace `json:"data"`
}

type storedTrace struct {
	TraceID   string       `json:"traceID"`
	Spans     []storedSpan `json:"spans"`
	Processes map[string]struct {
		ServiceName string `json:"serviceName"`
	} `json:"processes"`
}

type storedSpan struct {
	SpanID        string      `json:"spanID"`
	OperationName string      `json:"operationName"`
	References    []reference `json:"references"`
	StartTime     int64       `json:"startTime"` // microseconds since 1970
	Duration      int64       `json:"duration"`  // microseconds
	Tags          []struct {
		Key   string `json:"key"`
		Value any    `json:"value"`
	} `json:"tags"`
	ProcessID string   `json:"processID"`
	Warnings  []string `json:"warnings"`
}

type reference struct {
	RefType string `json:"refType"`
	TraceID string `json:"traceID"`
	SpanID  string `json:"spanID"`
}

// parse reads the answer of /api/traces/{id}.
func parse(body []byte) (*Trace, error) {
	traces, err := parseAll(body)
	if err != nil {
		return nil, err
	}
	if len(traces) != 1 {
		return nil, fmt.Errorf("expected one trace in Jaeger's answer, found %d", len(traces))
	}
	return traces[0], nil
}

// parseAll reads the answer of /api/traces.
func parseAll(body []byte) (traces []*Trace, err error) {
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, fmt.Errorf("read Jaeger's answer: %w", err)
	}
	for _, data := range a.Data {
		traces = append(traces, newTrace(data))
	}
	return traces, nil
}

func newTrace(data storedTrace) *Trace {
	trace := &Trace{ID: data.TraceID}
	for _, stored := range data.Spans {
		span := Span{
			ID:       stored.SpanID,
			Service:  data.Processes[stored.ProcessID].ServiceName,
			Name:     stored.OperationName,
			Start:    time.UnixMicro(stored.StartTime),
			Duration: time.Duration(stored.Duration) * time.Microsecond,
			Tags:     make(map[string]string),
			Warnings: stored.Warnings,
		}
		for _, tag := range stored.Tags {
			span.Tags[tag.Key] = fmt.Sprint(tag.Value)
		}
		for _, ref := range stored.References {
			if ref.RefType == "CHILD_OF" && ref.TraceID == data.TraceID && span.Parent == "" {
				span.Parent = ref.SpanID
				continue
			}
			span.Links = append(span.Links, ref.SpanID)
		}
		trace.Spans = append(trace.Spans, span)
	}
	slices.SortStableFunc(trace.Spans, func(a, b Span) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID))
	})
	return trace
}
