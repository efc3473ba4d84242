package conformance

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/treatyhq/treaty/internal/conform"
)

func TestReport(t *testing.T) {
	report := &Report{
		Saga: "sagas/conform-1",
		Sections: []Section{{Name: "a.v1.A/Do", Kind: "pivot", Counted: "the probe", Lines: []Line{
			{ID: "executed", Promise: "is executed", Verdict: conform.Holds.String(), Took: time.Millisecond},
			{ID: "duplicate", Promise: "once", Verdict: conform.Fails.String(), Text: `answered "OK" <twice>`},
			{ID: "restart", Promise: "after", Verdict: conform.Skipped.String(), Text: "nobody says how"},
		}}},
		Unchecked: []string{"a.v1.A/Other"},
		Left:      []conform.Left{{Method: "a.v1.A/Do", Count: 2, Why: "executed"}},
	}
	var text strings.Builder
	for _, section := range report.Sections {
		text.WriteString(section.title())
		for _, line := range section.Lines {
			text.WriteString(line.text())
		}
	}
	text.WriteString(report.summary())
	if diff := cmp.Diff(`a.v1.A/Do  (pivot; effects counted by the probe)
  executed               holds    is executed
  duplicate              FAILS    answered "OK" <twice>
  restart                skipped  nobody says how
a.v1.A/Other is served and isn't checked: list it under commands or except.
left behind: 2 × a.v1.A/Do: executed
1 guarantee holds, 1 fails, 1 was skipped. The commands were those of sagas/conform-1-*.
`, text.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	if report.Holds() {
		t.Error("the report holds")
	}
	var junit strings.Builder
	if err := report.WriteJUnit(&junit); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`<?xml version="1.0" encoding="UTF-8"?>
<testsuites>
  <testsuite name="a.v1.A/Do" tests="3" failures="1" skipped="1" time="0.001">
    <testcase name="executed" classname="a.v1.A/Do" time="0.001"></testcase>
    <testcase name="duplicate" classname="a.v1.A/Do" time="0.000">
      <failure message="answered &#34;OK&#34; &lt;twice&gt;"></failure>
    </testcase>
    <testcase name="restart" classname="a.v1.A/Do" time="0.000">
      <skipped message="nobody says how"></skipped>
    </testcase>
  </testsuite>
  <testsuite name="unchecked" tests="1" failures="1" skipped="0" time="0.000">
    <testcase name="a.v1.A/Other" classname="unchecked" time="0.000">
      <failure message="is served and isn&#39;t checked"></failure>
    </testcase>
  </testsuite>
</testsuites>
`, junit.String()); diff != "" {
		t.Errorf("JUnit (-want +got):\n%s", diff)
	}
}
