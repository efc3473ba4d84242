package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// cancelFlags are the flags of sagas cancel.
type cancelFlags struct {
	bulkFlags

	reason string
	etag   string
}

// cancellable is the filter for the sagas that can be cancelled, as far as their state tells.
const cancellable = `(state = "RUNNING" OR state = "SUSPENDED")`

func (a *app) cancelCommand() *cobra.Command {
	var flags cancelFlags
	cmd := &cobra.Command{
		Use:   "cancel (NAME | --filter FILTER --yes) --reason WHY",
		Short: "Cancel a saga, or many, and compensate their steps",
		Long: `Cancel a saga and compensate its steps. This doesn't need the saga's code. A saga that is past its pivot
or has succeeded can't be cancelled. Cancelling a saga that is being compensated, or has been, changes
nothing.

With --etag, which treaty sagas get shows, the saga is cancelled only if its state is still the same.

With --filter, cancel all running and suspended sagas that it selects, one after the other, and print the
outcome of each. The exit code is 1 if any of them couldn't be cancelled, or has changed since it was
selected. With --dry-run, only list them. Without --yes, only count them.`,
		Example: `  treaty sagas cancel sagas/x --reason 'the customer withdrew'
  treaty sagas cancel --filter 'suspension_reason = "RESTORED_UNDONE"' --dry-run
  treaty sagas cancel --filter 'suspension_reason = "RESTORED_UNDONE"' --reason 'compared, ticket 4711' --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if flags.filter != "" {
				return exact()(cmd, args)
			}
			return exact("NAME")(cmd, args)
		},
		ValidArgsFunction: a.completeSaga(`state = "RUNNING" OR state = "SUSPENDED"`),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if flags.filter != "" {
				return a.cancelAll(ctx, flags)
			}
			if err := flags.checkOne(); err != nil {
				return err
			}
			return a.cancel(ctx, args[0], flags)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.reason, "reason", "", "explain `WHY`; the journal keeps it")
	set.StringVar(&flags.etag, "etag", "", etagHelp)
	flags.register(set, "cancel", "running and suspended")
	cmd.MarkFlagsMutuallyExclusive("filter", "etag")
	return cmd
}

func (a *app) cancel(ctx context.Context, text string, flags cancelFlags) error {
	name, err := parseName(text)
	if err != nil {
		return err
	}
	decision, err := a.decision(flags.reason)
	if err != nil {
		return err
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	request := &treatyv1.CancelSagaRequest{Name: name, Decision: decision, Etag: flags.etag}
	saga, err := a.client.Sagas.CancelSaga(call, request)
	if err != nil {
		return a.explain(err, problem.Subject{Doing: "cancelling the saga", Saga: name})
	}
	a.printStanding(saga)
	return nil
}

// cancelAll cancels all sagas that a filter selects.
func (a *app) cancelAll(ctx context.Context, flags cancelFlags) error {
	request := new(treatyv1.CancelSagaRequest)
	if !flags.dryRun {
		var err error
		if request.Decision, err = a.decision(flags.reason); err != nil {
			return err
		}
	}
	all := &bulk{
		bulkFlags: flags.bulkFlags, app: a, states: cancellable, verb: "cancel", past: "cancelled", doing: "cancelling",
		decide: func(ctx context.Context, seen *treatyv1.Saga) (*treatyv1.Saga, error) {
			request.Name, request.Etag = seen.GetName(), seen.GetEtag()
			return a.client.Sagas.CancelSaga(ctx, request)
		},
	}
	return all.run(ctx)
}
