//go:build proof

package proof

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/treatyhq/treaty/internal/jaegertest"
	"github.com/treatyhq/treaty/services/demo/company"
)

// TestDemoTraces runs the demo, which kills its orchestrator in the middle, with a Jaeger, and checks every trace in
// it. Spans wait for seconds until they are exported, so that the kill takes many with it.
func TestDemoTraces(t *testing.T) {
	jaeger := jaegertest.Start(t)
	cmd := exec.CommandContext(t.Context(), "go", "run", "./services/demo", "--once")
	cmd.Dir = ".."
	cmd.Env = append(append(os.Environ(), jaeger.Env()...), "OTEL_BSP_SCHEDULE_DELAY=5000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the demo ends with %v:\n%s", err, out)
	}
	if !strings.Contains(string(out), "TypeScript on Node") {
		t.Log("the notification service ran in Go, since Node can't run it here")
	}
	traces := settledTraces(t, jaeger)
	seen := make(map[string]int)
	for _, trace := range traces {
		for _, fault := range demoFaults(trace) {
			t.Errorf("trace %s: %s", trace.ID, fault)
		}
		for _, span := range trace.Spans {
			seen[span.Service]++
		}
	}
	t.Logf("%d traces with spans of %v", len(traces), seen)
	for _, service := range append(company.Participants(), orchestratorService) {
		if seen[service] == 0 {
			t.Errorf("%s has made no spans", service)
		}
	}
	if t.Failed() {
		for _, trace := range traces {
			if len(demoFaults(trace)) > 0 {
				t.Logf("%s: %s", trace.ID, drawn(trace))
			}
		}
	}
}

// settledTraces returns all traces once no further spans arrive.
func settledTraces(t *testing.T, jaeger *jaegertest.Jaeger) []*jaegertest.Trace {
	t.Helper()
	count := func(traces []*jaegertest.Trace) (n int) {
		for _, trace := range traces {
			n += len(trace.Spans)
		}
		return n
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before := jaeger.Traces(t)
	for {
		<-tick.C
		after := jaeger.Traces(t)
		if count(after) > 0 && count(after) == count(before) {
			return after
		}
		before = after
	}
}

// demoFaults returns what is wrong with a trace of the demo, whatever saga it is of.
func demoFaults(got *jaegertest.Trace) (faults []string) {
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	faults = holes(got)
	if roots := got.Roots(); len(roots) != 1 {
		add("it has %d roots, want one", len(roots))
	}
	ids := make(map[string]bool)
	anchors := make(map[string]jaegertest.Span) // by saga
	ends := make(map[string][]string)           // by saga
	for _, span := range got.Spans {
		if ids[span.ID] {
			add("two spans have the id %s", span.ID)
		}
		ids[span.ID] = true
		if span.Service != orchestratorService {
			continue
		}
		saga := span.Tags["treaty.saga"]
		switch {
		case span.Tags["treaty.state"] != "":
			ends[saga] = append(ends[saga], span.Name)
		case span.Tags[stepTag] == "":
			anchors[saga] = span
		case strings.HasPrefix(span.Name, "action "), strings.HasPrefix(span.Name, "compensation "):
			faults = append(faults, stepFaults(got, span)...)
		}
	}
	for saga := range anchors {
		slices.Sort(ends[saga])
		if n := len(ends[saga]); n == 0 || n != len(slices.Compact(slices.Clone(ends[saga]))) {
			add("the ends of %s are %q, want one of each ending", saga, ends[saga])
		}
	}
	for saga := range maps.Keys(ends) {
		if _, known := anchors[saga]; !known {
			add("%s has an end and no anchor", saga)
		}
	}
	return faults
}

// stepFaults returns what is wrong with a step: its child, or the participant that has answered an attempt, must have a
// span below it, and what it compensates must be linked. A command that was never sent has nothing below it.
func stepFaults(got *jaegertest.Trace, step jaegertest.Span) (faults []string) {
	below := slices.DeleteFunc(slices.Clone(got.Spans), func(s jaegertest.Span) bool { return s.Parent != step.ID })
	method := step.Tags["rpc.method"]
	participant := strings.Split(method, ".")[1] // "acme.card.v1.CardService/IssueCard" is the card service's
	if name := step.Tags["treaty.participant"]; name != "" {
		participant = strings.Split(name, ".")[1]
	}
	compensates := step.Tags["treaty.direction"] == "compensation"
	child := step.Tags["treaty.child"]
	answered := slices.ContainsFunc(below, func(s jaegertest.Span) bool {
		return s.Service == orchestratorService &&
			slices.Contains([]string{"done", "refused", "accepted"}, s.Tags["treaty.outcome"])
	})
	worked := slices.ContainsFunc(below, func(s jaegertest.Span) bool { return s.Service == participant })
	started := slices.ContainsFunc(below, func(s jaegertest.Span) bool {
		return s.Tags["treaty.saga"] == child && s.Tags[stepTag] == ""
	})
	switch {
	case child == "" && answered && !worked:
		faults = append(faults, fmt.Sprintf("no span of %s is below %s", participant, step.Name))
	case child != "" && answered && !started && !compensates:
		faults = append(faults, fmt.Sprintf("the anchor of %s isn't below %s", child, step.Name))
	}
	if !compensates {
		return faults
	}
	linked := slices.DeleteFunc(slices.Clone(got.Spans), func(s jaegertest.Span) bool {
		return !slices.Contains(step.Links, s.ID)
	})
	if !slices.ContainsFunc(linked, func(s jaegertest.Span) bool {
		return s.Tags[stepTag] == step.Tags[stepTag] && strings.HasPrefix(s.Name, "action ")
	}) {
		faults = append(faults, step.Name+" isn't linked to its action")
	}
	if child != "" && !slices.ContainsFunc(linked, func(s jaegertest.Span) bool {
		return s.Tags["treaty.saga"] == child
	}) {
		faults = append(faults, step.Name+" isn't linked to the child saga that it compensates")
	}
	return faults
}
