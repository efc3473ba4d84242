package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func (a *app) getCommand() *cobra.Command {
	var payloads bool
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Show one saga with its timeline",
		Long: `Show one saga with its timeline: the method, kind, state and duration of each step, its compensation and
failure, and the attempts of a command that isn't done yet. For a suspended saga, also show why it is
suspended and how to resume it.`,
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(""),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			name, err := parseName(args[0])
			if err != nil {
				return err
			}
			if err := a.connect(ctx); err != nil {
				return err
			}
			saga, err := a.getSaga(ctx, name)
			if err != nil {
				return err
			}
			if a.flags.json {
				a.printJSON(saga)
				return nil
			}
			shown := render.SagaPayloads
			if payloads {
				shown = render.AllPayloads
			}
			a.print(a.view(shown).Saga(saga))
			return nil
		}),
	}
	cmd.Flags().BoolVar(&payloads, "payloads", false,
		"also show the requests and replies of the steps; --json always does")
	return cmd
}

func (a *app) getSaga(ctx context.Context, name string) (*treatyv1.Saga, error) {
	ctx, cancel := a.unary(ctx)
	defer cancel()
	saga, err := a.client.Sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: name})
	if err != nil {
		return nil, a.explain(err, problem.Subject{Doing: "reading the saga", Saga: name})
	}
	return saga, nil
}
