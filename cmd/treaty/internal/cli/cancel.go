package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func (a *app) cancelCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel NAME --reason WHY",
		Short: "Cancel a saga and compensate its steps",
		Long: `Cancel a saga and compensate its steps. This doesn't need the saga's code. A saga that is past its pivot
or has succeeded can't be cancelled. Cancelling a saga that is being compensated, or has been, changes
nothing.`,
		Example:           `  treaty sagas cancel sagas/x --reason 'the customer withdrew'`,
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(`state = "RUNNING" OR state = "SUSPENDED"`),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.cancel(ctx, args[0], reason)
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "explain `WHY`; the journal keeps it")
	return cmd
}

func (a *app) cancel(ctx context.Context, text, reason string) error {
	name, err := parseName(text)
	if err != nil {
		return err
	}
	decision, err := a.decision(reason)
	if err != nil {
		return err
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	saga, err := a.client.Sagas.CancelSaga(call, &treatyv1.CancelSagaRequest{Name: name, Decision: decision})
	if err != nil {
		return a.explain(err, problem.Subject{Doing: "cancelling the saga", Saga: name})
	}
	a.printStanding(saga)
	return nil
}
