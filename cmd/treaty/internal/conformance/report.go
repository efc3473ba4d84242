package conformance

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/treatyhq/treaty/internal/conform"
)

// Report is what a participant guarantees.
type Report struct {
	Address  string    `json:"address"`
	Sections []Section `json:"sections"`

	// Unchecked are the commands that the participant serves and that the file doesn't list.
	Unchecked []string `json:"unchecked,omitempty"`

	// Saga is the prefix of the names of all sagas that the commands were sent for.
	Saga string `json:"saga"`

	// Left says what is left behind at the participant.
	Left []conform.Left `json:"left,omitempty"`
}

// Section is one command, or the participant as a whole.
type Section struct {
	// Name is the method, or "participant".
	Name string `json:"name"`

	// Kind is the command's kind, and Counted says how effects are counted. They are empty for the participant.
	Kind    string `json:"kind,omitempty"`
	Counted string `json:"counted,omitempty"`

	Lines []Line `json:"guarantees"`
}

// Line is one guarantee.
type Line struct {
	ID      string        `json:"id"`
	Promise string        `json:"promise"`
	Verdict string        `json:"verdict"`
	Text    string        `json:"text,omitempty"`
	Took    time.Duration `json:"-"`
}

func lineOf(r conform.Result) Line {
	return Line{
		ID: r.Guarantee.ID, Promise: r.Guarantee.Promise, Verdict: r.Verdict.String(), Text: r.Text, Took: r.Took,
	}
}

// Count returns how many guarantees have a verdict.
func (r *Report) Count(verdict conform.Verdict) (n int) {
	for _, section := range r.Sections {
		for _, line := range section.Lines {
			if line.Verdict == verdict.String() {
				n++
			}
		}
	}
	return n
}

// Holds reports whether no guarantee fails and every command was checked.
func (r *Report) Holds() bool { return r.Count(conform.Fails) == 0 && len(r.Unchecked) == 0 }

// title is the headline of a section.
func (s Section) title() string {
	if s.Kind == "" {
		return "The participant\n"
	}
	return fmt.Sprintf("%s  (%s; effects counted by %s)\n", s.Name, s.Kind, s.Counted)
}

// text is the line of a table.
func (l Line) text() string {
	why := l.Promise
	if l.Text != "" {
		why = l.Text
	}
	return strings.TrimRight(fmt.Sprintf("  %-22s %-8s %s", l.ID, l.Verdict, why), " ") + "\n"
}

// summary is what stands below the tables.
func (r *Report) summary() string {
	var b strings.Builder
	for _, name := range r.Unchecked {
		fmt.Fprintf(&b, "%s is served and isn't checked: list it under commands or except.\n", name)
	}
	for _, left := range r.Left {
		fmt.Fprintf(&b, "left behind: %s\n", left)
	}
	fmt.Fprintf(&b, "%s, %s, %s. The commands were those of %s-*.\n",
		counted(r.Count(conform.Holds), "guarantee holds", "guarantees hold"),
		counted(r.Count(conform.Fails), "fails", "fail"),
		counted(r.Count(conform.Skipped), "was skipped", "were skipped"), r.Saga)
	return b.String()
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// The elements of a JUnit report, as CI servers read it.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Time     string      `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure,omitempty"`
		Skipped *junitMessage `xml:"skipped,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
	}
)

// WriteJUnit writes the report as JUnit XML: a test suite for each command, a test case for each guarantee.
func (r *Report) WriteJUnit(w io.Writer) error {
	var all junitSuites
	for _, section := range r.Sections {
		suite := junitSuite{Name: section.Name}
		var took time.Duration
		for _, line := range section.Lines {
			c := junitCase{Name: line.ID, Class: section.Name, Time: seconds(line.Took)}
			switch line.Verdict {
			case conform.Fails.String():
				c.Failure = &junitMessage{line.Text}
				suite.Failures++
			case conform.Skipped.String():
				c.Skipped = &junitMessage{line.Text}
				suite.Skipped++
			}
			took += line.Took
			suite.Cases = append(suite.Cases, c)
		}
		suite.Tests, suite.Time = len(suite.Cases), seconds(took)
		all.Suites = append(all.Suites, suite)
	}
	unchecked := junitSuite{Name: "unchecked", Tests: len(r.Unchecked), Failures: len(r.Unchecked), Time: seconds(0)}
	for _, name := range r.Unchecked {
		unchecked.Cases = append(unchecked.Cases, junitCase{
			Name: name, Class: unchecked.Name, Time: seconds(0), Failure: &junitMessage{"is served and isn't checked"},
		})
	}
	if len(r.Unchecked) > 0 {
		all.Suites = append(all.Suites, unchecked)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
