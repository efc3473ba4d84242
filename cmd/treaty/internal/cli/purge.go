package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// purgeFlags are the flags of sagas purge.
type purgeFlags struct {
	bulkFlags

	reason string
}

// purgeable is the filter for the sagas that can be purged, as far as their state tells.
const purgeable = `(state = "SUCCEEDED" OR state = "COMPENSATED")`

func (a *app) purgeCommand() *cobra.Command {
	var flags purgeFlags
	cmd := &cobra.Command{
		Use:   "purge (NAME | --filter FILTER --yes) --reason WHY",
		Short: "Delete a saga that has ended, or many",
		Long: `Delete a saga that has ended, with its journal, whatever its retention, and the child sagas in the same
store that it may compensate. Nothing of it can be shown afterwards. A start with its request id still fails. A saga
that hasn't ended, or that a parent may still compensate, can't be deleted. The orchestrator logs who has
decided, and why.

With --filter, delete all ended sagas that it selects, one after the other, and print the outcome of each. The
exit code is 1 if any of them couldn't be deleted. With --dry-run, only list them. Without --yes, only count
them.`,
		Example: `  treaty sagas purge sagas/x --reason 'right to be forgotten, ticket 4711'
  treaty sagas purge --filter 'labels.customer = "c-7"' --dry-run
  treaty sagas purge --filter 'labels.customer = "c-7"' --reason 'right to be forgotten, ticket 4711' --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if flags.filter != "" {
				return exact()(cmd, args)
			}
			return exact("NAME")(cmd, args)
		},
		ValidArgsFunction: a.completeSaga(`state = "SUCCEEDED" OR state = "COMPENSATED"`),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if flags.filter != "" {
				return a.purgeAll(ctx, flags)
			}
			if err := flags.checkOne(); err != nil {
				return err
			}
			return a.purge(ctx, args[0], flags.reason)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.reason, "reason", "", "explain `WHY`; the orchestrator's log keeps it")
	flags.register(set, "purge", "ended")
	return cmd
}

// purgeDecision returns who purges sagas and why. The journal, which keeps other decisions, is deleted.
func (a *app) purgeDecision(reason string) (*treatyv1.Decision, error) {
	if strings.TrimSpace(reason) == "" {
		return nil, problem.Usage("purging needs a reason, which is kept in the orchestrator's log",
			"Give the reason with --reason.")
	}
	return a.decision(reason)
}

func (a *app) purge(ctx context.Context, text, reason string) error {
	name, err := parseName(text)
	if err != nil {
		return err
	}
	decision, err := a.purgeDecision(reason)
	if err != nil {
		return err
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	purged, err := a.client.Sagas.PurgeSaga(call, &treatyv1.PurgeSagaRequest{Name: name, Decision: decision})
	if err != nil {
		return a.explain(err, problem.Subject{Doing: "purging the saga", Saga: name})
	}
	a.printPurged(name, purged)
	return nil
}

// purgeAll purges all sagas that a filter selects.
func (a *app) purgeAll(ctx context.Context, flags purgeFlags) error {
	request := new(treatyv1.PurgeSagaRequest)
	if !flags.dryRun {
		var err error
		if request.Decision, err = a.purgeDecision(flags.reason); err != nil {
			return err
		}
	}
	var purged *treatyv1.PurgeSagaResponse
	all := &bulk{
		bulkFlags: flags.bulkFlags, app: a, states: purgeable, verb: "purge", past: "purged", doing: "purging",
		decide: func(ctx context.Context, seen *treatyv1.Saga) (saga *treatyv1.Saga, err error) {
			request.Name = seen.GetName()
			purged, err = a.client.Sagas.PurgeSaga(ctx, request)
			return &treatyv1.Saga{Name: request.GetName()}, err
		},
		report: func(saga *treatyv1.Saga) { a.printPurged(saga.GetName(), purged) },
	}
	return all.run(ctx)
}

// purgedJSON is a saga that was purged, in the output of --json.
type purgedJSON struct {
	Name        string `json:"name"`
	PurgedSagas int32  `json:"purgedSagas"`
}

// printPurged says that a saga was purged, and how many children with it.
func (a *app) printPurged(name string, purged *treatyv1.PurgeSagaResponse) {
	if a.flags.json {
		writeJSON(a.Stdout, purgedJSON{name, purged.GetPurgedSagas()})
		return
	}
	a.print(a.view(render.SagaPayloads).Purged(name, int(purged.GetPurgedSagas())-1))
}
