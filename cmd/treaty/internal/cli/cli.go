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
)

// Process is what one run sees of the world around it. The zero value of a field isn't usable; start from System.
type Process struct {
	// Args are the arguments without the program's name.
	Args []string

	// Stdin, Stdout and Stderr are the standard streams.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	// Getenv looks up an environment variable; empty when it isn't set.
	Getenv func(string) string

	// Now is the clock.
	Now func() time.Time

	// Location is the time zone of times shown in a terminal.
	Location *time.Location

	// Screen measures the terminal that Stdout is. It reports false when Stdout is no terminal.
	Screen func() (render.Screen, bool)

	// Pause waits before a lost connection is tried again. It returns early, with ctx's error, when ctx ends.
	Pause func(ctx context.Context, wait time.Duration) error

	// Build says what was built.
	Build Build
}

// System is the process as the operating system made it.
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
		Build:    readBuild(),
	}
}

// Run runs one command line and returns the exit code. It writes errors to Stderr and never panics or exits. When ctx
// ends, the running call is given up.
func Run(ctx context.Context, process Process) int {
	a := &app{Process: process}
	a.written = &outcomeWriter{w: process.Stdout}
	a.Stdout = a.written
	root := a.rootCommand()
	root.SetArgs(process.Args)
	err := root.ExecuteContext(ctx)
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
	flags   globalFlags
	client  *connection.Client // nil until a command connects
	written *outcomeWriter     // what Stdout is
}

// outcomeWriter remembers the first write that failed, so that a full disk isn't taken for success.
type outcomeWriter struct {
	w   io.Writer
	err error
}

func (o *outcomeWriter) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// problem says that a write failed; nil when none did.
func (o *outcomeWriter) problem() error {
	if o.err == nil {
		return nil
	}
	return &problem.Problem{Exit: problem.ExitFailure, Message: "writing the output failed: " + o.err.Error()}
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "treaty",
		Short: "Start, find, watch, cancel and repair sagas",
		Long: `Start, find, watch, cancel and repair sagas.

treaty speaks to an orchestrator over gRPC. Payloads are shown as JSON with the types that the orchestrator's server
reflection offers; fields marked debug_redact are shown as "[redacted]".

Exit codes: 0 done; 1 failed; 2 wrong command line; 3 the saga ended COMPENSATED (wait, start --wait); 130 interrupted.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          groupHelp,
	}
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
		a.definitionsCommand(),
		a.versionCommand(),
	)
	return root
}

func (a *app) sagasCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "sagas",
		Aliases: []string{"saga"},
		Short:   "Find, watch, cancel and repair sagas",
		Long:    "Find, watch, cancel and repair sagas. A saga's NAME is sagas/x or just x.",
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
		a.recordsCommand(),
	)
	return cmd
}

// groupHelp runs a command that only holds others: it shows them, or refuses one that isn't there.
func groupHelp(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	hints := []string{"See " + cmd.CommandPath() + " --help."}
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hints = append([]string{"Did you mean " + cmd.CommandPath() + " " + near[0] + "?"}, hints...)
	}
	return problem.Usage(cmd.CommandPath()+" has no command "+quote(args[0]), hints...)
}

// runner is the body of a command.
type runner func(ctx context.Context, cmd *cobra.Command, args []string) error

// run makes a command's body out of a runner: whatever it returns is a problem that says what failed, so that what cobra
// finds by itself can be told apart as wrong usage.
func (a *app) run(body runner) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		err := body(cmd.Context(), cmd, args)
		if err == nil {
			return nil
		}
		if known, ok := errors.AsType[*problem.Problem](err); ok {
			return known
		}
		if code, ok := errors.AsType[exitError](err); ok {
			return code
		}
		return a.explain(err, problem.Subject{})
	}
}

// exact accepts a fixed number of arguments and says what is missing otherwise.
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
