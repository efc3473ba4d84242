package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func (a *app) getCommand() *cobra.Command {
	var payloads bool
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Show one saga with its timeline",
		Long: `Show one saga with its timeline: each step with its method, kind, state and duration, its compensation and failure,
and, while its command is still being sent, its attempts. For a suspended saga: why, and the commands with which it goes on.`,
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(""),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			name, err := parseName(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			saga, err := a.getSaga(ctx, c, name)
			if err != nil {
				return err
			}
			if a.flags.json {
				a.printJSON(c, saga)
				return nil
			}
			shown := render.SagaPayloads
			if payloads {
				shown = render.AllPayloads
			}
			a.print(a.view(c, shown).Saga(saga))
			return nil
		}),
	}
	cmd.Flags().BoolVar(&payloads, "payloads", false, "show the steps' requests and replies too; --json always does")
	return cmd
}

func (a *app) getSaga(ctx context.Context, c *connection.Client, name string) (*treatyv1.Saga, error) {
	ctx, cancel := a.unary(ctx)
	defer cancel()
	saga, err := c.Sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: name})
	if err != nil {
		return nil, a.explain(err, problem.Subject{Doing: "reading the saga", Saga: name})
	}
	return saga, nil
}
