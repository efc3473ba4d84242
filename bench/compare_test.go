package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCompareFlags refuses comparisons that make no sense, before anything is built.
func TestCompareFlags(t *testing.T) {
	for _, s := range []struct {
		c    comparison
		want string
	}{
		{comparison{Pairs: 1}, "--base names no commit"},
		{comparison{Base: "main"}, "--pairs is 0"},
		{comparison{Base: "main", Pairs: 1, Threshold: -1}, "--threshold is -1"},
		{comparison{Base: "main", Pairs: 1, Args: "--unheard-of"}, "--args: unknown flag: --unheard-of"},
		{comparison{Base: "main", Pairs: 1, Args: "--steps 0"}, "--args: --steps is 0"},
		{comparison{Base: "main", Pairs: 1, Args: "--matrix"}, "asks for another measurement"},
		{comparison{Base: "main", Pairs: 1, Args: "client"}, "asks for another measurement"},
	} {
		if _, _, err := s.c.validate(); err == nil || !strings.Contains(err.Error(), s.want) {
			t.Errorf("%+v: %v, want %q", s.c, err, s.want)
		}
	}
	c := comparison{Base: "an-unknown-commit", Pairs: 1}
	if _, _, err := c.build(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "isn't a commit") {
		t.Errorf("%+v: %v", c, err)
	}
}

// TestArgsFor leaves out what an earlier benchmark doesn't know, and gives its participant an inbox.
func TestArgsFor(t *testing.T) {
	earlier := map[string]bool{"json": true, "rounds": true, "round": true, "in-flight": true, "inbox": true}
	for _, s := range []struct{ args, want, wantEarlier string }{
		{
			"", "--heap-floor=false --json=true --round=2s --rounds=2",
			"--inbox=true --json=true --round=2s --rounds=2",
		},
		{
			"--no-inbox --unary --in-flight 64 --round 4s",
			"--heap-floor=false --in-flight=64 --json=true --no-inbox=true --round=4s --rounds=2 --unary=true",
			"--in-flight=64 --json=true --round=4s --rounds=2",
		},
	} {
		c := comparison{Base: "main", Pairs: 1, Args: s.args}
		args, set, err := c.validate()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(args, " "); got != s.want {
			t.Errorf("--args %q runs bench %s, want %s", s.args, got, s.want)
		}
		if got := strings.Join(argsFor(earlier, set), " "); got != s.wantEarlier {
			t.Errorf("--args %q runs an earlier bench %s, want %s", s.args, got, s.wantEarlier)
		}
	}
}

// TestAlternate changes the order from pair to pair.
func TestAlternate(t *testing.T) {
	var order []string
	runs := func(name string) func() (compared, error) {
		return func() (compared, error) {
			order = append(order, name)
			return compared{Ratio: float64(len(order))}, nil
		}
	}
	c := comparison{Pairs: 3}
	pairs, err := c.alternate(t.Output(), runs("base"), runs("tree"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"base", "tree", "tree", "base", "base", "tree"}, order); diff != "" {
		t.Errorf("order of the runs (-want +got):\n%s", diff)
	}
	if p := pairs[1]; p.tree.Ratio != 3 || p.base.Ratio != 4 {
		t.Errorf("the second pair is %+v, want the third run and the fourth", p)
	}
	_, err = c.alternate(t.Output(), runs("base"), func() (compared, error) { return compared{}, context.Canceled })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a run fails: %v", err)
	}
}

// TestJudge fails if the processor time of a saga is worse, and not if it is better, or if only one pair is worse.
func TestJudge(t *testing.T) {
	run := func(cpu float64) compared {
		used := perSaga{CPU: cpu / 4, Bytes: 1000, Objects: 10}
		return compared{Ratio: 200 / cpu, PerSecond: 1e6 / cpu, CPU: cpu, FloorCPU: 200,
			Processes: &processes{Client: used, Server: used, Participant: used}}
	}
	earlier := run(400)
	earlier.Processes = nil
	for _, s := range []struct {
		name  string
		pairs []pair
		worse bool
	}{
		{"better", []pair{{run(400), run(300)}, {run(420), run(310)}, {run(380), run(330)}}, false},
		{"worse", []pair{{run(400), run(420)}, {run(400), run(416)}, {run(400), run(390)}}, true},
		{"level", []pair{{run(400), run(410)}, {run(400), run(800)}, {run(400), run(390)}}, false},
		{"earlier", []pair{{earlier, run(400)}}, false},
	} {
		c := comparison{Base: "main", Threshold: 3}
		var text bytes.Buffer
		if err := c.judge(&text, s.pairs); (err != nil) != s.worse {
			t.Errorf("%s: %v", s.name, err)
		}
		golden(t, "compare-"+s.name+".txt", text.Bytes())
	}
}
