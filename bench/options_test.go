package main

import (
	"io"
	"strings"
	"testing"
)

// TestFlags refuses flags that make no sense, before anything is started.
func TestFlags(t *testing.T) {
	for _, s := range []struct{ args, want string }{
		{"--steps 0", "--steps is 0; it must be between 1 and 1000"},
		{"--in-flight 100001", "--in-flight is 100001; it must be between 1 and 100000"},
		{"--payload -1", "--payload is -1; it must be between 0 and 1048576"},
		{"--refused 101", "--refused is 101; it must be between 0 and 100"},
		{"--rounds 0", "--rounds is 0; it must be between 1 and 1000"},
		{"--connections 65", "--connections is 65; it must be between 1 and 64"},
		{"--sleeping -1", "--sleeping is -1; it must be between 0 and 10000000"},
		{"--overload 1000001", "--overload is 1000001; it must be between 0 and 1000000"},
		{"--watchers 1,-1", "--watchers has -1; it must be between 0 and 100000"},
		{"--round 10ms", "--round 10ms must be between 100ms and 1h, --warm-up 1s between 0 and 1h"},
		{"--capacity 0", "--capacity is 0; it must be positive"},
		{"--fill -1", "--fill is -1; it must be between 0 and 100000000"},
		{"--fill-store x.db", "--fill-store needs --fill"},
		{"--matrix --profile x.prof", "--profile is for one orchestrator, and --matrix measures many"},
		{"--fill 1 --matrix", "--fill and --matrix are different measurements; choose one"},
		{"--outage", "--outage needs --overload"},
		{"--matrix --watchers 1", "--matrix and --watchers are different measurements; choose one"},
		{"--sleeping 1 --overload 1", "--sleeping and --overload are different measurements; choose one"},
	} {
		cmd := rootCommand()
		cmd.SetArgs(strings.Fields(s.args))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil || err.Error() != s.want {
			t.Errorf("bench %s: %v, want %q", s.args, err, s.want)
		}
	}
}

// TestHow says in which way commands are sent, as flags have it.
func TestHow(t *testing.T) {
	for _, s := range []struct{ args, want string }{
		{"", "stream, inbox"}, {"--unary", "unary, inbox"}, {"--no-inbox --tracing", "stream, no inbox, traced"},
	} {
		var o options
		cmd := rootCommand()
		o.register(cmd.PersistentFlags())
		if err := cmd.PersistentFlags().Parse(strings.Fields(s.args)); err != nil {
			t.Fatal(err)
		}
		if err := o.validate(); err != nil || o.how() != s.want {
			t.Errorf("bench %s measures %q, %v; want %q", s.args, o.how(), err, s.want)
		}
	}
}
