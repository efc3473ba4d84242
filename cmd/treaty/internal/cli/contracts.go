package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/contracts"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/sagacode"
)

func (a *app) contractsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "contracts",
		Short: "Write down what sagas expect of their participants",
		Long: "Write down what sagas expect of their participants, so that the participants' teams can check that " +
			"they offer\nit before they deploy.",
		Args: cobra.ArbitraryArgs,
		RunE: groupHelp,
	}
	cmd.AddCommand(a.exportCommand())
	return cmd
}

func (a *app) exportCommand() *cobra.Command {
	var params sagacode.Params
	var file string
	cmd := &cobra.Command{
		Use:   "export [DIR]",
		Short: "Write what the sagas in DIR expect of their participants",
		Long: `Write what the sagas in DIR, or in the current folder, expect of their participants: the methods
that they call, with all messages that can be reached from them, the kinds and compensations of those methods, and the
rejections that the code of the sagas looks for. With /... at its end, DIR means the packages in the folders below it,
too.

The sagas and the contracts are read from the Go code, which has to compile. The output is YAML, for people to review
and commit. The same code always gives the same output.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return exact("DIR")(cmd, args)
			}
			return nil
		},
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if a.flags.json && file == "" {
				return problem.Usage("the expectations are YAML, so --json needs --out",
					"To print them, leave out --json.")
			}
			params.Dir = "."
			if len(args) == 1 {
				params.Dir = args[0]
			}
			return a.export(ctx, params, file)
		}),
	}
	cmd.Flags().StringArrayVar(&params.Sagas, "saga", nil, "read this saga `DEFINITION` and the child sagas that it "+
		"starts, e.g. acme.card.v1.CardSagas/IssueCard; repeat it for more (default: all)")
	cmd.Flags().StringVarP(&file, "out", "o", "", "write to this `FILE` instead of standard output")
	return cmd
}

// export reads sagas and writes what they expect to a file, or to standard output if file is empty.
func (a *app) export(ctx context.Context, params sagacode.Params, file string) error {
	code, err := sagacode.Read(ctx, params)
	if err != nil {
		return err
	}
	expected, err := contracts.New(code.Uses)
	if err != nil {
		return fmt.Errorf("reading the contracts of the sagas in %s: %w", params.Dir, err)
	}
	text, err := expected.Encode()
	if err != nil {
		return err
	}
	if file == "" {
		a.print(string(text))
	} else if err := writeWhole(file, text); err != nil {
		return fmt.Errorf("writing %s: %w", file, err)
	}
	methods := 0
	for _, service := range expected.Services {
		methods += len(service)
	}
	switch {
	case a.flags.json:
		writeJSON(a.Stdout, map[string]any{
			"file": file, "sagas": code.Sagas, "services": len(expected.Services), "methods": methods,
			"notes": code.Notes,
		})
		return nil
	case file != "":
		a.print(fmt.Sprintf("%s: %d sagas expect %d methods of %d services.\n", file, len(code.Sagas), methods,
			len(expected.Services)))
	}
	for _, note := range code.Notes {
		_, _ = io.WriteString(a.Stderr, "Note: "+note+".\n")
	}
	return nil
}
