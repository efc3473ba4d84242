package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// maxPageSize is the largest page of the API.
const maxPageSize = 1000

// listFlags are the flags of sagas list.
type listFlags struct {
	filter     string
	states     []string
	definition string
	requestID  string
	orderBy    string
	pageFlags
}

// pageFlags are the flags of lists.
type pageFlags struct {
	pageSize  int32
	pageToken string
	all       bool
}

func (f *pageFlags) register(set *pflag.FlagSet) {
	set.Int32Var(&f.pageSize, "page-size", 50, "the number of sagas in a page, at most 1000")
	set.StringVar(&f.pageToken, "page-token", "", "the `TOKEN` of the page to show")
	set.BoolVar(&f.all, "all", false, "show all pages")
}

func (f *pageFlags) check() error {
	if f.pageSize < 1 || f.pageSize > maxPageSize {
		return problem.Usage(fmt.Sprintf("--page-size must be from 1 to %d", maxPageSize))
	}
	return nil
}

func (a *app) listCommand() *cobra.Command {
	var flags listFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List sagas, newest first",
		Example: `  treaty sagas list --state suspended
  treaty sagas list --definition acme.card.v1.CardSagas/IssueCard --all
  treaty sagas list --filter 'suspension_reason = "RESTORED_OVERDUE"' --all
  treaty sagas list --filter 'labels.customer = "c-7" AND create_time > "2026-01-31T00:00:00Z"'`,
		Args: exact(),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, _ []string) error { return a.list(ctx, flags) }),
	}
	set := cmd.Flags()
	set.StringVar(&flags.filter, "filter", "",
		"an AIP-160 `FILTER` over definition, state, suspension_reason, request_id, create_time, update_time and "+
			"labels.KEY")
	set.StringSliceVar(&flags.states, "state", nil, "only sagas in this `STATE`; can be repeated")
	set.StringVar(&flags.definition, "definition", "", "only sagas of this `DEFINITION`")
	set.StringVar(&flags.requestID, "request-id", "", "only sagas that were started with this request `ID`")
	set.StringVar(&flags.orderBy, "order-by", "",
		"create_time or update_time, optionally followed by desc (default \"create_time desc\")")
	flags.register(set)
	a.completeFlag(cmd, "state", completeStates)
	a.completeFlag(cmd, "definition", a.completeDefinitions)
	a.completeFlag(cmd, "order-by", fixed("create_time desc", "create_time", "update_time desc", "update_time"))
	return cmd
}

func (a *app) list(ctx context.Context, flags listFlags) error {
	filter, err := flags.expression()
	if err != nil {
		return err
	}
	if err := flags.check(); err != nil {
		return err
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	var sagas []*treatyv1.Saga
	var notDriven *treatyv1.NotDriven
	request := &treatyv1.ListSagasRequest{
		PageSize: flags.pageSize, PageToken: flags.pageToken, Filter: filter, OrderBy: flags.orderBy,
	}
	for listed := 0; ; {
		page, err := a.listPage(ctx, request)
		if err != nil {
			return a.explain(err, problem.Subject{Doing: "listing sagas"})
		}
		if a.flags.json {
			for _, saga := range page.GetSagas() {
				a.printJSON(saga)
			}
		} else {
			sagas = append(sagas, page.GetSagas()...)
		}
		listed += len(page.GetSagas())
		a.progress.say("listing sagas, %d so far", listed)
		notDriven = page.GetNotDriven()
		request.PageToken = page.GetNextPageToken()
		if request.PageToken == "" || !flags.all {
			break
		}
	}
	if !a.flags.json {
		a.print(a.view(render.SagaPayloads).Sagas(sagas))
	}
	a.announcePage(request.GetPageToken())
	if notDriven != nil {
		_, _ = fmt.Fprintf(a.Stderr, "The orchestrator drives no saga: %s. What to do: %s.\n", notDriven.GetMessage(),
			notDriven.GetAdvice())
	}
	return nil
}

// announcePage says how to show the next page, if there is one.
func (a *app) announcePage(token string) {
	if token != "" {
		_, _ = fmt.Fprintf(a.Stderr,
			"There are more sagas. Use --page-token %s for the next page, or --all for all pages.\n",
			render.ShellQuote(token))
	}
}

func (a *app) listPage(ctx context.Context, request *treatyv1.ListSagasRequest) (*treatyv1.ListSagasResponse, error) {
	ctx, cancel := a.unary(ctx)
	defer cancel()
	return a.client.Sagas.ListSagas(ctx, request)
}

// expression joins --state, --definition and --filter into one filter.
func (f *listFlags) expression() (string, error) {
	var parts []string
	if len(f.states) > 0 {
		var states []string
		for _, text := range f.states {
			state, err := parseState(text)
			if err != nil {
				return "", err
			}
			states = append(states, "state = "+quote(state))
		}
		parts = append(parts, group(strings.Join(states, " OR "), len(states) > 1))
	}
	if f.definition != "" {
		parts = append(parts, "definition = "+quote(strings.TrimPrefix(f.definition, "/")))
	}
	if f.requestID != "" {
		parts = append(parts, "request_id = "+quote(f.requestID))
	}
	if filter := strings.TrimSpace(f.filter); filter != "" {
		parts = append(parts, group(filter, len(parts) > 0))
	}
	return strings.Join(parts, " AND "), nil
}

func group(expression string, needed bool) string {
	if needed {
		return "(" + expression + ")"
	}
	return expression
}
