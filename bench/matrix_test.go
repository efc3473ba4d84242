package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// TestMatrix compares the table of made-up cells with a golden file.
func TestMatrix(t *testing.T) {
	var reports []*report
	for i, inFlight := range []int{1, 256} {
		for j, way := range matrixWays {
			r := madeReport()
			r.InFlight, r.Refused = inFlight, 100*i
			r.Inbox, r.Unary, r.Tracing = way.Inbox, way.Unary, way.Tracing
			r.Ratio = float64(10*i+j) / 100
			reports = append(reports, r)
		}
	}
	var text bytes.Buffer
	printMatrix(&text, reports)
	golden(t, "matrix.md", text.Bytes())
}

// TestShorten shortens what no flag says.
func TestShorten(t *testing.T) {
	for _, s := range []struct {
		args   []string
		round  time.Duration
		rounds int
	}{
		{nil, 2 * time.Second, 3},
		{[]string{"--round", "4s", "--rounds", "4"}, 4 * time.Second, 4},
	} {
		var o options
		flags := pflag.NewFlagSet("bench", pflag.ContinueOnError)
		o.register(flags)
		if err := flags.Parse(s.args); err != nil {
			t.Fatal(err)
		}
		o.shorten(flags)
		if o.Round != s.round || o.Rounds != s.rounds {
			t.Errorf("with %q: %d rounds of %v, want %d of %v", s.args, o.Rounds, o.Round, s.rounds, s.round)
		}
	}
}
