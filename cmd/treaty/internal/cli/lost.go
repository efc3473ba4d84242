package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// lostFlags are the flags of sagas lost.
type lostFlags struct {
	pageFlags

	forget string
	reason string
}

func (a *app) lostCommand() *cobra.Command {
	var flags lostFlags
	cmd := &cobra.Command{
		Use:   "lost [--forget NAME --reason WHY]",
		Short: "List the sagas that a restored store has lost",
		Long: `List the sagas that participants know and the orchestrator doesn't, since its store was restored from a
backup that was made before they started, with what became of their commands.

A lost saga continues when it is started again with the same request id. If it can't be, undo its effects
at the participants, then remove it from the list with --forget.`,
		Example: `  treaty sagas lost
  treaty sagas lost --forget sagas/x --reason 'refunded by hand, ticket 4711'`,
		Args: exact(),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, _ []string) error {
			if flags.forget != "" {
				return a.forgetLost(ctx, flags)
			}
			return a.lost(ctx, flags)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.forget, "forget", "", "remove the saga with this `NAME` from the list; its effects stay")
	set.StringVar(&flags.reason, "reason", "", "with --forget, explain `WHY`; the orchestrator logs it")
	flags.register(set)
	for _, flag := range []string{"page-size", "page-token", "all"} {
		cmd.MarkFlagsMutuallyExclusive("forget", flag)
	}
	a.completeFlag(cmd, "forget", a.completeLost)
	return cmd
}

func (a *app) lost(ctx context.Context, flags lostFlags) error {
	if flags.reason != "" {
		return problem.Usage("--reason is for --forget")
	}
	if err := flags.check(); err != nil {
		return err
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	var sagas []*treatyv1.LostSaga
	request := &treatyv1.ListLostSagasRequest{PageSize: flags.pageSize, PageToken: flags.pageToken}
	for listed := 0; ; {
		page, err := a.lostPage(ctx, request)
		if err != nil {
			return a.explain(err, problem.Subject{Doing: "listing lost sagas"})
		}
		if a.flags.json {
			for _, saga := range page.GetLostSagas() {
				a.printJSON(saga)
			}
		} else {
			sagas = append(sagas, page.GetLostSagas()...)
		}
		listed += len(page.GetLostSagas())
		a.progress.say("listing lost sagas, %d so far", listed)
		request.PageToken = page.GetNextPageToken()
		if request.GetPageToken() == "" || !flags.all {
			break
		}
	}
	if !a.flags.json {
		a.print(a.view(render.SagaPayloads).Lost(sagas))
	}
	a.announcePage(request.GetPageToken())
	return nil
}

func (a *app) lostPage(
	ctx context.Context, request *treatyv1.ListLostSagasRequest,
) (*treatyv1.ListLostSagasResponse, error) {
	ctx, cancel := a.unary(ctx)
	defer cancel()
	return a.client.Sagas.ListLostSagas(ctx, request)
}

func (a *app) forgetLost(ctx context.Context, flags lostFlags) error {
	name, err := parseName(flags.forget)
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
	request := &treatyv1.DeleteLostSagaRequest{Name: name, Decision: decision}
	response, err := a.client.Sagas.DeleteLostSaga(call, request)
	if err != nil {
		return a.explain(err, problem.Subject{Doing: "forgetting the lost saga"})
	}
	if a.flags.json {
		a.printJSON(response)
		return nil
	}
	a.print(name + " is no longer listed\n")
	return nil
}

// completeLost suggests the names of lost sagas.
func (a *app) completeLost(cmd *cobra.Command, _ []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := completionContext(cmd)
	defer cancel()
	if err := a.connect(ctx); err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	page, err := a.client.Sagas.ListLostSagas(ctx, &treatyv1.ListLostSagasRequest{PageSize: completionSagas})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for _, saga := range page.GetLostSagas() {
		words = append(words, saga.GetName())
	}
	return withPrefix(words, toComplete), cobra.ShellCompDirectiveNoFileComp
}
