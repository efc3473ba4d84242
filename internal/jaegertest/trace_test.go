package jaegertest

import (
	"testing"
	"time"
)

const stored = `{"data": [{
	"traceID": "0102030405060708090a0b0c0d0e0f10",
	"spans": [
		{"spanID": "00000000000000b2", "operationName": "attempt", "startTime": 1700000000000200, "duration": 1500,
			"processID": "p2",
			"references": [
				{"refType": "CHILD_OF", "traceID": "0102030405060708090a0b0c0d0e0f10", "spanID": "00000000000000a1"},
				{"refType": "FOLLOWS_FROM", "traceID": "0102030405060708090a0b0c0d0e0f10",
					"spanID": "00000000000000c3"}],
			"tags": [{"key": "treaty.attempt", "type": "int64", "value": 2}], "warnings": ["clock skew"]},
		{"spanID": "00000000000000a1", "operationName": "saga", "startTime": 1700000000000100, "duration": 0,
			"processID": "p1", "references": [], "tags": [], "warnings": null},
		{"spanID": "00000000000000d4", "operationName": "attempt", "startTime": 1700000000000300, "duration": 1,
			"processID": "p2", "tags": [],
			"references": [
				{"refType": "CHILD_OF", "traceID": "0102030405060708090a0b0c0d0e0f10", "spanID": "00000000000000ff"}]}
	],
	"processes": {"p1": {"serviceName": "orchestrator"}, "p2": {"serviceName": "customer"}}
}]}`

func TestParse(t *testing.T) {
	trace, err := parse([]byte(stored))
	if err != nil {
		t.Fatal(err)
	}
	if len(trace.Spans) != 3 || trace.ID != "0102030405060708090a0b0c0d0e0f10" {
		t.Fatalf("got %+v, want three spans", trace)
	}
	saga, attempt := trace.Spans[0], trace.Spans[1]
	if saga.Name != "saga" || saga.Service != "orchestrator" || saga.Parent != "" {
		t.Errorf("first span is %+v, want the saga's, which started first", saga)
	}
	if attempt.Parent != saga.ID || attempt.Service != "customer" || attempt.Duration != 1500*time.Microsecond {
		t.Errorf("second span is %+v, want the attempt below the saga", attempt)
	}
	if attempt.Tags["treaty.attempt"] != "2" || len(attempt.Links) != 1 || attempt.Links[0] != "00000000000000c3" ||
		len(attempt.Warnings) != 1 {
		t.Errorf("second span is %+v, want its tag, link and warning", attempt)
	}
	if orphans := trace.Orphans(); len(orphans) != 1 || orphans[0].ID != "00000000000000d4" {
		t.Errorf("orphans are %+v, want the one whose parent is missing", orphans)
	}
	if roots := trace.Roots(); len(roots) != 1 || roots[0].ID != saga.ID {
		t.Errorf("roots are %+v, want the saga's span", roots)
	}
	if named := trace.Named("attempt"); len(named) != 2 {
		t.Errorf("%d spans are named attempt, want 2", len(named))
	}
}

func TestParseRefuses(t *testing.T) {
	for _, body := range []string{``, `{`, `{"data": []}`, `{"data": [{}, {}]}`,
		`{"data": [{"spans": [{"spanID": 1}]}]}`} {
		if trace, err := parse([]byte(body)); err == nil {
			t.Errorf("parse(%q) = %+v, want an error", body, trace)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(stored))
	f.Fuzz(func(_ *testing.T, body []byte) {
		if trace, err := parse(body); err == nil {
			trace.Orphans()
			trace.Roots()
		}
	})
}
