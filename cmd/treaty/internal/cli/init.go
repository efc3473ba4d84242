package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/scaffold"
)

func (a *app) initCommand() *cobra.Command {
	var params scaffold.Params
	cmd := &cobra.Command{
		Use:   "init [DIR]",
		Short: "Write a small project with a saga, two participants and their tests",
		Long: `Write a small project into DIR, or into the current folder: contracts, two participants, a saga, an
orchestrator, tests, and a Makefile that builds and runs it all with nothing but Go.

The folder must be new or empty, apart from a go.mod. Nothing is overwritten. If the folder belongs to a Go module, the
project becomes a part of it.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exact("DIR")(cmd, args)
			}
			return nil
		},
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			shown := "."
			if len(args) == 1 {
				shown = args[0]
			}
			params.Dir, params.Version, params.Revision = shown, a.Build.Version, a.Build.Revision
			project, err := scaffold.Write(ctx, params)
			if wrong, ok := errors.AsType[*scaffold.Error](err); ok {
				return &problem.Error{Exit: problem.ExitFailure, Message: wrong.Message + "; nothing was written",
					Hints: wrong.Hints}
			}
			if err != nil {
				return fmt.Errorf("nothing was written: %w", err)
			}
			a.printProject(project, shown)
			return nil
		}),
	}
	cmd.Flags().StringVar(&params.Module, "module", "", "the path of the new module (default: example.com/ and the "+
		"name of the folder)")
	cmd.Flags().StringVar(&params.Replace, "replace", "", "the `folder` of a checkout of Treaty to use, instead of a "+
		"release")
	return cmd
}

// printProject says what was written, and what to do next.
func (a *app) printProject(project *scaffold.Project, shown string) {
	if a.flags.json {
		writeJSON(a.Stdout, map[string]any{"dir": project.Dir, "module": project.Module, "files": project.Files})
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Wrote %d files of %s into %s.\n\nNext:\n", len(project.Files), project.Module, shown)
	if shown != "." {
		fmt.Fprintf(&text, "    cd %s\n", render.ShellQuote(shown))
	}
	for _, command := range project.Require {
		fmt.Fprintf(&text, "    %s\n", command)
	}
	text.WriteString("    make        # generates the code and runs the tests; the first time, it builds the tools\n" +
		"    make run    # starts two participants and the orchestrator; Ctrl-C stops them\n" +
		"    treaty dev  # the same, and restarts what changes\n\n" +
		"README.md says how to place an order, and what each file is.\n")
	a.print(text.String())
}
