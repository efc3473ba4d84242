package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func (a *app) waitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "wait NAME",
		Short: "Wait until a saga has ended",
		Long: `Wait until a saga has ended, then print its reply. The exit code is 0 if the saga SUCCEEDED and 3 if it
was COMPENSATED. The wait survives a restart of the orchestrator. If the saga is suspended, the orchestrator
drives no saga, or a participant is down, not configured or keeps failing, print a message on stderr and
continue to wait.`,
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(openSagas),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			name, err := parseName(args[0])
			if err != nil {
				return err
			}
			if err := a.connect(ctx); err != nil {
				return err
			}
			return a.waitFor(ctx, name)
		}),
	}
}

// waitFor waits until a saga has ended and prints the outcome. A compensated saga is an exitError.
func (a *app) waitFor(ctx context.Context, name string) error {
	ctx, cancel := a.long(ctx)
	defer cancel()
	suspended, driven := false, true
	stuck := &obstacles{app: a}
	f := follower{lost: a.lostOnStderr, tried: stuck.tried}
	f.seen = func(saga *treatyv1.Saga) {
		stuck.seen(saga)
		now := saga.GetState() == treatyv1.SagaState_SAGA_STATE_SUSPENDED
		if now && !suspended {
			a.reportSuspended(saga)
		}
		suspended = now
		if why := saga.GetNotDriven(); driven && why != nil {
			_, _ = fmt.Fprintf(a.Stderr, "%s isn't driven: %s. What to do: %s.\n", name, why.GetMessage(),
				why.GetAdvice())
		}
		driven = saga.GetNotDriven() == nil
	}
	saga, err := a.follow(ctx, name, f)
	if err != nil {
		return err
	}
	if a.flags.json {
		a.printJSON(saga)
	} else {
		a.print(a.view(render.SagaPayloads).End(saga))
	}
	if saga.GetState() == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		return exitError(problem.ExitCompensated)
	}
	return nil
}

// reportSuspended says on stderr why a saga is suspended.
func (a *app) reportSuspended(saga *treatyv1.Saga) {
	_, _ = fmt.Fprintf(a.Stderr, "%s is SUSPENDED: %s. To show how to resume it, run treaty sagas get %s.\n",
		render.Clean(saga.GetName()), render.SuspensionText(saga.GetSuspension().GetReason()),
		render.ShellQuote(saga.GetName()))
}
