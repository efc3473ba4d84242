package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/orchestrator/saga"
)

// DefaultListen is the default of --listen.
const DefaultListen = "127.0.0.1:7080"

// The exit codes of Main.
const (
	// ExitOK says that the program was stopped by a signal, or asked for help.
	ExitOK = 0

	// ExitFailure says that the program can't serve or stopped serving, or that verify found something. Standard error
	// says why.
	ExitFailure = 1

	// ExitUsage says that a flag, an argument or an environment variable is wrong. Standard error says which.
	ExitUsage = 2
)

// program is what Main depends on.
type program struct {
	name           string
	args           []string
	stdout, stderr io.Writer
	getenv         func(string) string
	register       func(saga.Registrar)
}

func (p program) run(ctx context.Context) int {
	root := p.command()
	root.SetArgs(p.args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	_, _ = fmt.Fprintf(p.stderr, "%s: %v\n", p.name, err)
	if _, ok := errors.AsType[usageError](err); ok {
		_, _ = fmt.Fprintf(p.stderr, "See %s --help.\n", p.name)
		return ExitUsage
	}
	return ExitFailure
}

// command returns the program's command line. Without a command, the program serves.
func (p program) command() *cobra.Command {
	var f flags
	serve := func(cmd *cobra.Command, _ []string) error {
		if err := fromEnvironment(cmd.Flags(), p.getenv); err != nil {
			return err
		}
		return p.serve(cmd.Context(), &f)
	}
	root := &cobra.Command{
		Use:   p.name,
		Short: "Run sagas and serve their API",
		Long: "Runs sagas: serves their API, sends commands to participants, and keeps everything in a store.\n" +
			"An environment variable can replace each flag: TREATY_LISTEN for --listen, and so on. A flag takes " +
			"precedence.\n" +
			"The OTEL_* variables configure spans and metrics, for example OTEL_EXPORTER_OTLP_ENDPOINT.",
		Args:              noArguments,
		RunE:              serve,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	f.register(root.PersistentFlags())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(&cobra.Command{
		Use: "serve", Short: "Run sagas and serve their API; the default", Args: noArguments, RunE: serve,
	})
	root.AddCommand(&cobra.Command{
		Use: "verify", Short: "Check that this program can continue all open sagas of the store",
		Long: "The upgrade gate: replays every open saga in --store against this program's code, without any effect, " +
			"and lists\n" +
			"the sagas that can't continue: saga, step, what the journal holds, and what the code does. It exits " +
			"with 1 then.\n" +
			"It may run while an orchestrator has the store open.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags(), p.getenv); err != nil {
				return err
			}
			return p.verify(cmd, &f)
		},
	})
	return root
}

func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unknown command %q", args[0])}
	}
	return nil
}

// serve runs the orchestrator until ctx ends.
func (p program) serve(ctx context.Context, f *flags) error {
	logger, err := f.logger(p.stderr)
	if err != nil {
		return err
	}
	o, err := New(append(f.options(logger), WithReady(p.announce))...)
	if err != nil {
		return err
	}
	p.register(o)
	return o.ListenAndServe(ctx, f.listen)
}

// announce prints the only line that a serving orchestrator prints on standard output.
func (p program) announce(ready Ready) {
	sagas := fmt.Sprintf("%d sagas", ready.Recovered)
	if ready.Recovered == 1 {
		sagas = "1 saga"
	}
	_, _ = fmt.Fprintf(p.stdout, "%s serving on %s (%s); store %s; %s recovered\n",
		p.name, ready.Address, ready.Transport, ready.Store, sagas)
}

// verify runs the upgrade gate and prints its findings.
func (p program) verify(cmd *cobra.Command, f *flags) error {
	logger, err := f.logger(p.stderr)
	if err != nil {
		return err
	}
	o, err := New(f.options(logger)...)
	if err != nil {
		return err
	}
	p.register(o)
	findings, verified, err := o.Verify(cmd.Context())
	if err != nil {
		return err
	}
	printFindings(p.stdout, findings)
	if len(findings) > 0 {
		return fmt.Errorf("%d of %s can't continue with this build", len(findings), counted(verified))
	}
	_, _ = fmt.Fprintf(p.stdout, "%d of %s can continue with this build\n", verified, counted(verified))
	return nil
}

func counted(sagas int) string {
	if sagas == 1 {
		return "1 open saga"
	}
	return fmt.Sprintf("%d open sagas", sagas)
}

func printFindings(out io.Writer, findings []Finding) {
	if len(findings) == 0 {
		return
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SAGA\tDEFINITION\tSTATE\tSTEP\tEXPECTED\tFOUND")
	for _, f := range findings {
		step := f.Step
		if step == "" {
			step = "-"
		}
		state := strings.TrimPrefix(f.State.String(), "SAGA_STATE_")
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", f.Saga, f.Definition, state, step, f.Expected, f.Found)
	}
	_ = table.Flush() // nothing more can be reported when the output fails
}
