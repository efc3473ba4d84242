package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/internal/progress"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/stores"
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
	terminal       bool          // stderr is one
	patience       time.Duration // after how long a progress line is shown; 0: its default
}

// line shows on stderr what a subcommand is doing, until the line is stopped.
func (p program) line(doing func() string) *progress.Line {
	return progress.Start(progress.LineParams{
		Out: p.stderr, InPlace: p.terminal, Patience: p.patience, Doing: doing,
	})
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
		if err := p.configure(cmd, &f); err != nil {
			return err
		}
		return p.serve(cmd.Context(), &f)
	}
	root := &cobra.Command{
		Use:   p.name,
		Short: "Run sagas and serve their API",
		Long: "Runs sagas: serves their API, sends commands to participants, and keeps everything in a store.\n" +
			"An environment variable can replace each flag: TREATY_LISTEN for --listen, and so on. So can a " +
			"configuration file.\n" +
			"A flag takes precedence over a variable, and a variable over the file.\n" +
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
			if err := p.configure(cmd, &f); err != nil {
				return err
			}
			return p.verify(cmd, &f)
		},
	})
	root.AddCommand(p.backupCommand(&f), p.restoreCommand(&f), p.importCommand(&f), p.keysCommand(&f))
	return root
}

// backupCommand returns the subcommand that copies the store.
func (p program) backupCommand(f *flags) *cobra.Command {
	var to string
	backup := &cobra.Command{
		Use: "backup --to FILE", Short: "Copy the store to a new file, while it may be open",
		Long: "Copies --store to a new file. An orchestrator may have the store open: the copy is the state of\n" +
			"one moment. The copy can't be served before it was restored, so that it never runs next to the\n" +
			"original by accident. Sagas that start or continue after the backup aren't in it: see restore.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usageError{errors.New("--to is missing: name the new file")}
			}
			o, err := p.configured(cmd, f)
			if err != nil {
				return err
			}
			line := p.line(func() string { return copied(f.store, to) })
			taken, err := o.Backup(cmd.Context(), to)
			line.Stop()
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(p.stdout, "backup of %s as of %s in %s\n", stores.Display(f.store),
				taken.Format(time.RFC3339), to)
			return nil
		},
	}
	backup.Flags().StringVar(&to, "to", "", "the new `FILE`")
	return backup
}

// copied says how far a backup is.
func copied(store, to string) string {
	doing := fmt.Sprintf("backing %s up to %s", stores.Display(store), to)
	if written, whole := stores.BackupProgress(store, to); written > 0 {
		doing += fmt.Sprintf(", %s of about %s", progress.Bytes(written), progress.Bytes(whole))
	}
	return doing
}

// restoreCommand returns the subcommand after which a backup can be served.
func (p program) restoreCommand(f *flags) *cobra.Command {
	var params RestoreParams
	var since string
	restore := &cobra.Command{
		Use: "restore", Short: "Make a copied backup, or a replaced store, one that can be served again",
		Long: "Copy the backup to where --store is, with no orchestrator running, and run this. When the store is\n" +
			"served next, no saga continues before all participants have said what they know since the backup.\n" +
			"Then sagas catch up with it. A saga that can't is suspended (RESTORED). Sagas that were started after\n" +
			"the backup are listed as lost; started again with the same request ids, they catch up, too.\n" +
			"It is also the way on for a store that was replaced by another one, if it is the right one after all.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if since != "" {
				var err error
				if params.Since, err = time.Parse(time.RFC3339, since); err != nil {
					return usageError{fmt.Errorf("--since %q isn't a time: want one such as 2026-01-31T12:00:00Z",
						since)}
				}
			}
			o, err := p.configured(cmd, f)
			if err != nil {
				return err
			}
			line := p.line(func() string { return "restoring " + stores.Display(f.store) })
			from, err := o.Restore(cmd.Context(), params)
			line.Stop()
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(p.stdout, "%s can be served; it may lack what happened since %s\n",
				stores.Display(f.store), from.Format(time.RFC3339))
			return nil
		},
	}
	set := restore.Flags()
	set.StringVar(&since, "since", "",
		"since when the store may lack what happened, a `TIME` such as 2026-01-31T12:00:00Z; needed for a store that "+
			"backup hasn't made, also with --epoch-from-clock")
	set.StringArrayVar(&params.Trusted, "trust", nil,
		"believe what the store says of the participant of this `SERVICE`, which can't say what it knows; repeatable")
	set.BoolVar(&params.EpochFromClock, "epoch-from-clock", false,
		"set the store's epoch back to the clock, after a clock that was far ahead was corrected; needs --since, too, "+
			"unless backup has made the store")
	return restore
}

// configure sets the flags that the command line doesn't set, from the environment and the configuration file.
func (p program) configure(cmd *cobra.Command, f *flags) error {
	if err := fromEnvironment(cmd.Flags(), p.getenv); err != nil {
		return err
	}
	return f.fromFile(cmd.Root().PersistentFlags())
}

// configured returns an orchestrator that is configured by the flags, the environment and the configuration file.
func (p program) configured(cmd *cobra.Command, f *flags) (*Orchestrator, error) {
	if err := p.configure(cmd, f); err != nil {
		return nil, err
	}
	logger, err := f.logger(p.stderr)
	if err != nil {
		return nil, err
	}
	return New(f.options(logger)...)
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
	audits, closeAudits, err := f.auditLogger(p.stderr)
	if err != nil {
		return err
	}
	defer closeAudits()
	o, err := New(append(f.options(logger), WithReady(p.announce), WithAuditLogger(audits))...)
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
	var count atomic.Int64
	line := p.line(func() string {
		return fmt.Sprintf("verifying %s, %s so far", stores.Display(f.store), counted(int(count.Load())))
	})
	findings, verified, err := o.verify(cmd.Context(), func() { count.Add(1) })
	line.Stop()
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
