package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/internal/progress"
)

// Process is what one run sees of the operating system. A field's zero value can't be used; start from [System].
type Process struct {
	// Args are the arguments, without the program's name.
	Args []string

	// Stdin, Stdout and Stderr are the standard streams.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Getenv returns an environment variable, or "" when it isn't set.
	Getenv func(string) string

	// Now returns the current time.
	Now func() time.Time

	// Location is the time zone of times shown in a terminal.
	Location *time.Location

	// Screen returns the size of the terminal that Stdout is connected to. It returns false when Stdout isn't a
	// terminal.
	Screen func() (render.Screen, bool)

	// Raw makes Stdin give each key as it is pressed, until restore is called. It returns false, and changes nothing,
	// when Stdin isn't a terminal.
	Raw func() (restore func(), ok bool)

	// Pause waits before a lost connection is retried. It returns ctx's error when ctx ends first.
	Pause func(ctx context.Context, wait time.Duration) error

	// ReadAgain is how long a followed saga stays unchanged before its attempts are read again. It doubles each time,
	// up to longestPause.
	ReadAgain time.Duration

	// Settle is how long a saga that was resumed is watched before its state is printed.
	Settle time.Duration

	// StderrTerminal says that Stderr is a terminal, on which a line about what is being done can be rewritten.
	StderrTerminal bool

	// Patience is how long a command may take before Stderr says what is being done.
	Patience time.Duration

	// Build describes this binary.
	Build Build
}

// System returns the process as the operating system started it.
func System() Process {
	return Process{
		Args:     os.Args[1:],
		Stdin:    os.Stdin,
		Stdout:   os.Stdout,
		Stderr:   os.Stderr,
		Getenv:   os.Getenv,
		Now:      time.Now,
		Location: time.Local,
		Screen:   stdoutScreen,
		Pause:    pause,
		Raw:      rawStdin,

		ReadAgain: 500 * time.Millisecond,
		Settle:    2 * time.Second,
		Build:     readBuild(),

		StderrTerminal: progress.IsTerminal(os.Stderr), Patience: progress.First,
	}
}

// Run runs one command line and returns the exit code. It writes errors to Stderr and never panics or exits. When ctx
// ends, Run cancels the call in flight and returns.
func Run(ctx context.Context, process Process) int {
	a := &app{Process: process}
	a.written = &checkedWriter{w: process.Stdout}
	line := progress.Start(progress.LineParams{
		Out: process.Stderr, InPlace: process.StderrTerminal, Patience: process.Patience, Doing: a.progress.text,
	})
	defer line.Stop()
	a.Stdout, a.Stderr = line.Over(a.written), line.Over(process.Stderr)
	root := a.rootCommand()
	root.SetArgs(process.Args)
	err := root.ExecuteContext(ctx)
	line.Stop()
	if a.client != nil {
		a.client.Close()
	}
	if err == nil {
		err = a.written.problem()
	}
	return a.report(ctx, err)
}

// app is one run of one command line.
type app struct {
	Process
	flags    globalFlags
	client   *connection.Client // nil until a command calls connect
	written  *checkedWriter     // Stdout
	progress doing
}

// checkedWriter remembers the first write that failed, so that a full disk fails the run.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil && c.err == nil {
		c.err = err
	}
	return n, err
}

// problem returns the failed write as a problem, or nil.
func (c *checkedWriter) problem() error {
	if c.err == nil {
		return nil
	}
	return &problem.Error{Exit: problem.ExitFailure, Message: "writing the output: " + c.err.Error()}
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "treaty",
		Short: "Start, find, watch, cancel and repair sagas",
		Long: `Start, find, watch, cancel and repair sagas.

treaty calls an orchestrator over gRPC. It shows payloads as JSON, with the types from the orchestrator's server
reflection. A field marked debug_redact is shown as "[redacted]".

Exit codes:
  0    success
  1    failure
  2    invalid command line
  3    the saga ended COMPENSATED (start, wait)
  130  interrupted`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          groupHelp,
		Version:       a.Build.line(),
	}
	root.SetVersionTemplate("{{.Version}}")
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetIn(a.Stdin)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return problem.Usage(err.Error(), "See "+cmd.CommandPath()+" --help.")
	})
	a.flags.register(root, a.Getenv)
	root.AddCommand(
		a.startCommand(),
		a.sagasCommand(),
		a.eventsCommand(),
		a.publishCommand(),
		a.contractsCommand(),
		a.definitionsCommand(),
		a.doctorCommand(),
		a.conformCommand(),
		a.devCommand(),
		a.initCommand(),
		a.policyCommand(),
		a.protosCommand(),
		a.versionCommand(),
	)
	return root
}

func (a *app) sagasCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "sagas",
		Aliases: []string{"saga"},
		Short:   "Find, watch, cancel and repair sagas",
		Long:    "Find, watch, cancel and repair sagas. NAME is the name of a saga, sagas/x or just x.",
		Args:    cobra.ArbitraryArgs,
		RunE:    groupHelp,
	}
	cmd.AddCommand(
		a.listCommand(),
		a.getCommand(),
		a.watchCommand(),
		a.waitCommand(),
		a.cancelCommand(),
		a.resumeCommand(),
		a.completeCommand(),
		a.purgeCommand(),
		a.recordsCommand(),
		a.lostCommand(),
	)
	return cmd
}

// groupHelp runs a command that only has subcommands. It lists them, or reports an unknown one.
func groupHelp(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	hints := []string{"See " + cmd.CommandPath() + " --help."}
	if near := nearest(cmd, args[0]); near != "" {
		hints = append([]string{"Did you mean " + near + "?"}, hints...)
	}
	return problem.Usage(cmd.CommandPath()+" has no command "+quote(args[0]), hints...)
}

// nearest returns the command that was probably meant: one of that name in a group, or else one with a similar name.
func nearest(cmd *cobra.Command, name string) string {
	for _, group := range cmd.Commands() {
		for _, one := range group.Commands() {
			if one.Name() == name {
				return one.CommandPath()
			}
		}
	}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		return cmd.CommandPath() + " " + near[0]
	}
	return ""
}

// runner is the body of a command.
type runner func(ctx context.Context, cmd *cobra.Command, args []string) error

// run wraps the body of a command so that its every error is a problem or an exitError. Any other error of a run is
// then one of cobra's own, about the command line.
func (a *app) run(body runner) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.progress.begin(!a.flags.json || a.StderrTerminal)
		err := body(cmd.Context(), cmd, args)
		if err == nil {
			return nil
		}
		if known, ok := errors.AsType[*problem.Error](err); ok {
			return known
		}
		if code, ok := errors.AsType[exitError](err); ok {
			return code
		}
		return a.explain(err, problem.Subject{})
	}
}

// exact accepts exactly the named arguments.
func exact(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return problem.Usage(cmd.CommandPath()+" needs "+names[len(args)], "Usage: "+cmd.UseLine())
		}
		if len(args) > len(names) {
			return problem.Usage(cmd.CommandPath()+" doesn't take "+quote(args[len(names)]), "Usage: "+cmd.UseLine())
		}
		return nil
	}
}

func stdoutScreen() (render.Screen, bool) {
	fd := int(os.Stdout.Fd())
	if !term.IsTerminal(fd) {
		return render.Screen{}, false
	}
	width, height, err := term.GetSize(fd)
	if err != nil || width <= 0 || height <= 0 {
		return render.Screen{Width: 80, Height: 24}, true
	}
	return render.Screen{Width: width, Height: height}, true
}

func rawStdin() (restore func(), ok bool) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil, false
	}
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, false
	}
	return func() { _ = term.Restore(fd, before) }, true
}

func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
