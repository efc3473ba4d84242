package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func (a *app) waitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "wait NAME",
		Short: "Wait until a saga has ended",
		Long: `Wait until a saga has ended and print its reply. Exits with 0 when it SUCCEEDED and with 3 when it was COMPENSATED.
Goes on when the orchestrator is restarted. Says on stderr when the saga is suspended, and goes on waiting.`,
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(openSagas),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			name, err := parseName(args[0])
			if err != nil {
				return err
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			return a.waitFor(ctx, c, name)
		}),
	}
}

// waitFor waits until a saga has ended, prints how, and returns the exit code for that as an error.
func (a *app) waitFor(ctx context.Context, c *connection.Client, name string) error {
	ctx, cancel := a.long(ctx)
	defer cancel()
	suspended := false
	saga, err := a.follow(ctx, c, name, follower{lost: a.lostOnStderr, seen: func(saga *treatyv1.Saga) {
		now := saga.GetState() == treatyv1.SagaState_SAGA_STATE_SUSPENDED
		if now && !suspended {
			_, _ = fmt.Fprintf(a.Stderr, "%s is SUSPENDED: %s. treaty sagas get %s shows what fits.\n",
				name, render.SuspensionText(saga.GetSuspension().GetReason()), render.ShellQuote(name))
		}
		suspended = now
	}})
	if err != nil {
		return err
	}
	if a.flags.json {
		a.printJSON(c, saga)
	} else {
		a.print(a.view(c, render.SagaPayloads).End(saga))
	}
	if saga.GetState() == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		return exitError(problem.ExitCompensated)
	}
	return nil
}
