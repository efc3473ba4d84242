package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// comparison compares the benchmark of a commit with that of the working tree.
type comparison struct {
	Base      string // the commit
	Pairs     int
	Threshold float64 // in percent
	Args      string  // flags of a measurement
	BaseArgs  string  // other flags for the commit, unless it is empty
}

func compareCommand() *cobra.Command {
	var c comparison
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Compare the benchmark of a commit with that of the working tree",
		Long: "Compare builds the benchmark of a commit and that of the working tree, and runs them in pairs, whose\n" +
			"order alternates. It fails if the working tree takes more processor time for a saga than is allowed.\n" +
			"A flag of --args that the commit's benchmark doesn't know is left out there.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&c.Base, "base", "", "the commit to compare with")
	cmd.Flags().IntVar(&c.Pairs, "pairs", 10, "pairs of runs")
	cmd.Flags().Float64Var(&c.Threshold, "threshold", 3, "percent of processor time for a saga that may be lost")
	cmd.Flags().StringVar(&c.Args, "args", "", "flags of the measurement; unless they say otherwise, a run has two "+
		"rounds of 2s each")
	cmd.Flags().StringVar(&c.BaseArgs, "base-args", "", "flags of the commit's measurement, if they differ")
	return cmd
}

// compared is what one run has measured.
type compared struct {
	Ratio     float64    `json:"ratio"`
	PerSecond float64    `json:"treaty_sagas_per_s"`
	CPU       float64    `json:"cpu_us_per_saga"`
	FloorCPU  float64    `json:"floor_cpu_us_per_saga"`
	Processes *processes `json:"processes"` // nil if the commit's benchmark doesn't measure them
}

// pair is a run of the commit and one of the working tree, one right after the other.
type pair struct{ base, tree compared }

func (c *comparison) run(ctx context.Context, out, progress io.Writer) error {
	treeArgs, set, err := c.validate()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "treaty-bench-")
	if err != nil {
		return fmt.Errorf("making a directory for the programs: %w", err)
	}
	defer os.RemoveAll(dir)
	fmt.Fprintln(progress, "building both")
	base, tree, err := c.build(ctx, dir)
	if err != nil {
		return err
	}
	baseArgs := strings.Fields(c.BaseArgs)
	if len(baseArgs) == 0 {
		known, err := flagsOf(ctx, base)
		if err != nil {
			return err
		}
		baseArgs = argsFor(known, set)
	}
	fmt.Fprintf(progress, "base: bench %s\ntree: bench %s\n", strings.Join(baseArgs, " "), strings.Join(treeArgs, " "))
	pairs, err := c.alternate(progress,
		func() (compared, error) { return runOnce(ctx, base, baseArgs) },
		func() (compared, error) { return runOnce(ctx, tree, treeArgs) })
	if err != nil {
		return err
	}
	return c.judge(out, pairs)
}

// validate returns the flags of the working tree's runs, as arguments and one by one.
func (c *comparison) validate() (args []string, set map[string]string, err error) {
	if c.Base == "" {
		return nil, nil, errors.New("--base names no commit to compare with, such as main or HEAD~3")
	}
	if c.Pairs < 1 || c.Pairs > 1000 {
		return nil, nil, fmt.Errorf("--pairs is %d; it must be between 1 and 1000", c.Pairs)
	}
	if c.Threshold < 0 {
		return nil, nil, fmt.Errorf("--threshold is %v; it mustn't be negative", c.Threshold)
	}
	var o options
	flags := pflag.NewFlagSet("bench", pflag.ContinueOnError)
	o.register(flags)
	short := []string{"--rounds=2", "--round=2s", "--heap-floor=false"}
	if err := flags.Parse(append(short, strings.Fields(c.Args)...)); err != nil {
		return nil, nil, fmt.Errorf("--args: %w", err)
	}
	if err := o.validate(); err != nil {
		return nil, nil, fmt.Errorf("--args: %w", err)
	}
	if o.Fill > 0 || o.Matrix || o.Sleeping > 0 || o.Overload > 0 || len(o.Watchers) > 0 || flags.NArg() > 0 {
		return nil, nil, fmt.Errorf("--args %q asks for another measurement; only that of sagas can be compared",
			c.Args)
	}
	set = map[string]string{"json": "true"}
	flags.Visit(func(f *pflag.Flag) { set[f.Name] = f.Value.String() })
	known := make(map[string]bool)
	flags.VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	return argsFor(known, set), set, nil
}

// argsFor returns arguments with those flags that a benchmark knows. An earlier benchmark has no inbox unless it is
// told so.
func argsFor(known map[string]bool, set map[string]string) []string {
	var args []string
	for name, value := range set {
		if known[name] {
			args = append(args, "--"+name+"="+value)
		}
	}
	if !known["no-inbox"] && known["inbox"] && set["no-inbox"] != "true" {
		args = append(args, "--inbox=true")
	}
	slices.Sort(args)
	return args
}

// build builds both programs.
func (c *comparison) build(ctx context.Context, dir string) (base, tree string, err error) {
	top, err := output(ctx, "", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return "", "", err
	}
	commit, err := output(ctx, top, "git", "rev-parse", "--verify", "--quiet", c.Base+"^{commit}")
	if err != nil {
		return "", "", fmt.Errorf("--base %q isn't a commit: %w", c.Base, err)
	}
	worktree := filepath.Join(dir, "worktree")
	if _, err := output(ctx, top, "git", "worktree", "add", "--quiet", "--detach", worktree, commit); err != nil {
		return "", "", err
	}
	defer func() {
		_, removed := output(context.WithoutCancel(ctx), top, "git", "worktree", "remove", "--force", worktree)
		err = errors.Join(err, removed)
	}()
	base, tree = filepath.Join(dir, "base"), filepath.Join(dir, "tree")
	for program, from := range map[string]string{base: worktree, tree: top} {
		if _, err := output(ctx, from, "go", "build", "-buildvcs=false", "-o", program, "./bench"); err != nil {
			return "", "", err
		}
	}
	return base, tree, nil
}

// output runs a program in a directory and returns what it prints.
func output(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), comparedVariable+"=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * stopLimit
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("running %s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err,
			strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// flagsOf asks a benchmark for its flags.
func flagsOf(ctx context.Context, program string) (map[string]bool, error) {
	help, err := output(ctx, "", program, "--help")
	if err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	for _, flag := range regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`).FindAllStringSubmatch(help, -1) {
		known[flag[1]] = true
	}
	return known, nil
}

// runOnce runs a benchmark.
func runOnce(ctx context.Context, program string, args []string) (result compared, err error) {
	out, err := output(ctx, "", program, args...)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		return result, fmt.Errorf("reading what %s has measured: %w", filepath.Base(program), err)
	}
	if result.CPU <= 0 {
		return result, fmt.Errorf("%s reports no processor time for a saga", filepath.Base(program))
	}
	return result, nil
}

// alternate runs the pairs: the commit first, then the working tree first, and so on, so that a machine whose speed
// drifts doesn't favor one of them.
func (c *comparison) alternate(progress io.Writer, base, tree func() (compared, error)) (pairs []pair, err error) {
	for i := range c.Pairs {
		var p pair
		began := time.Now()
		if i%2 == 0 {
			if p.base, err = base(); err == nil {
				p.tree, err = tree()
			}
		} else {
			if p.tree, err = tree(); err == nil {
				p.base, err = base()
			}
		}
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
		fmt.Fprintf(progress, "pair %d of %d: ratio %.2f -> %.2f, CPU %.0f -> %.0f us per saga; %.0f s\n", i+1, c.Pairs,
			p.base.Ratio, p.tree.Ratio, p.base.CPU, p.tree.CPU, time.Since(began).Seconds())
	}
	return pairs, nil
}

// comparedFigure is one of the figures that are compared.
type comparedFigure struct {
	name   string
	figure func(compared) float64
	format string
}

// judge prints medians and spreads, and returns an error if the working tree is worse.
func (c *comparison) judge(out io.Writer, pairs []pair) error {
	fmt.Fprintf(out, "%d pairs; each figure is a median, with the lowest and the highest\n\n%-28s %-24s %-24s %s\n",
		len(pairs), "", "base", "tree", "tree / base")
	rows := []comparedFigure{
		{"ratio to the floor", func(r compared) float64 { return r.Ratio }, "%.2f"},
		{"sagas/s", func(r compared) float64 { return r.PerSecond }, "%.0f"},
		{"CPU us per saga", func(r compared) float64 { return r.CPU }, "%.0f"},
		{"CPU, of the floor's", func(r compared) float64 { return r.CPU / r.FloorCPU }, "%.2f"},
		{"CPU us per saga, floor", func(r compared) float64 { return r.FloorCPU }, "%.0f"},
	}
	if pairs[0].base.Processes != nil && pairs[0].tree.Processes != nil {
		rows = append(rows, []comparedFigure{
			{"CPU us, client", func(r compared) float64 { return r.Processes.Client.CPU }, "%.0f"},
			{"CPU us, orchestrator", func(r compared) float64 { return r.Processes.Server.CPU }, "%.0f"},
			{"CPU us, participant", func(r compared) float64 { return r.Processes.Participant.CPU }, "%.0f"},
			{"objects, orchestrator", func(r compared) float64 { return r.Processes.Server.Objects }, "%.0f"},
			{"objects, participant", func(r compared) float64 { return r.Processes.Participant.Objects }, "%.0f"},
		}...)
	}
	for _, row := range rows {
		fmt.Fprintf(out, "%-28s %-24s %-24s %s\n", row.name,
			spread(pairs, row.format, func(p pair) float64 { return row.figure(p.base) }),
			spread(pairs, row.format, func(p pair) float64 { return row.figure(p.tree) }),
			spread(pairs, "%.3f", func(p pair) float64 { return row.figure(p.tree) / row.figure(p.base) }))
	}
	worse := 100 * (median(pairs, func(p pair) float64 { return p.tree.CPU / p.base.CPU }) - 1)
	if worse > c.Threshold {
		return fmt.Errorf("a saga takes %.1f%% more processor time than at %s, and %v%% is allowed: profile it with "+
			"--profile", worse, c.Base, c.Threshold)
	}
	fmt.Fprintf(out, "\nprocessor time per saga: %+.1f%%; %v%% more is allowed\n", worse, c.Threshold)
	return nil
}

// spread prints a median with the lowest and the highest figure.
func spread(pairs []pair, format string, figure func(pair) float64) string {
	low, high := figure(pairs[0]), figure(pairs[0])
	for _, p := range pairs {
		low, high = min(low, figure(p)), max(high, figure(p))
	}
	return fmt.Sprintf(format+" ("+format+" to "+format+")", median(pairs, figure), low, high)
}
