package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// getFlags are the flags of sagas get.
type getFlags struct {
	requestID, definition string

	payloads bool
}

func (a *app) getCommand() *cobra.Command {
	var flags getFlags
	cmd := &cobra.Command{
		Use:   "get (NAME | --request-id ID)",
		Short: "Show one saga with its timeline",
		Long: `Show one saga with its timeline: the method, kind, state and duration of each step, its compensation and
failure, and the attempts of a command that isn't done yet. For a suspended saga, also show why it is
suspended and how to resume it.

With --request-id, show the saga that was started with that request id. Sagas of several definitions may have
been started with the same one. Then --definition says which of them to show.`,
		Example: `  treaty sagas get sagas/x
  treaty sagas get --request-id order-4711 --definition acme.card.v1.CardSagas/IssueCard`,
		Args: func(cmd *cobra.Command, args []string) error {
			if flags.requestID != "" {
				return exact()(cmd, args)
			}
			return exact("NAME")(cmd, args)
		},
		ValidArgsFunction: a.completeSaga(""),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			saga, err := a.findSaga(ctx, args, flags)
			if err != nil {
				return err
			}
			if a.flags.json {
				a.printJSON(saga)
				return nil
			}
			shown := render.SagaPayloads
			if flags.payloads {
				shown = render.AllPayloads
			}
			a.print(a.view(shown).Saga(saga))
			return nil
		}),
	}
	set := cmd.Flags()
	set.BoolVar(&flags.payloads, "payloads", false,
		"also show the requests and replies of the steps; --json always does")
	set.StringVar(&flags.requestID, "request-id", "", "show the saga that was started with this request `ID`")
	set.StringVar(&flags.definition, "definition", "", "with --request-id, the `DEFINITION` of the saga")
	a.completeFlag(cmd, "definition", a.completeDefinitions)
	return cmd
}

// findSaga returns the saga that the command line names.
func (a *app) findSaga(ctx context.Context, args []string, flags getFlags) (*treatyv1.Saga, error) {
	if flags.requestID == "" {
		if flags.definition != "" {
			return nil, problem.Usage("--definition is for --request-id")
		}
		name, err := parseName(args[0])
		if err != nil {
			return nil, err
		}
		if err := a.connect(ctx); err != nil {
			return nil, err
		}
		return a.getSaga(ctx, name)
	}
	if err := a.connect(ctx); err != nil {
		return nil, err
	}
	name, err := a.startedWith(ctx, flags)
	if err != nil {
		return nil, err
	}
	return a.getSaga(ctx, name)
}

// startedWith returns the name of the only saga that was started with a request id.
func (a *app) startedWith(ctx context.Context, flags getFlags) (string, error) {
	list := listFlags{requestID: flags.requestID, definition: flags.definition}
	filter, err := list.expression()
	if err != nil {
		return "", err
	}
	page, err := a.listPage(ctx, &treatyv1.ListSagasRequest{PageSize: maxPageSize, Filter: filter})
	if err != nil {
		return "", a.explain(err, problem.Subject{Doing: "finding the saga"})
	}
	switch found := page.GetSagas(); len(found) {
	case 0:
		return "", &problem.Error{
			Exit:    problem.ExitFailure,
			Message: fmt.Sprintf("no saga was started with the request id %q, or it was purged", flags.requestID),
			Hints: []string{"Sagas are found by their request ids if the orchestrator runs their definitions. For " +
				"another definition, add --definition."},
		}
	case 1:
		return found[0].GetName(), nil
	default:
		var names []string
		for _, saga := range found {
			names = append(names, saga.GetDefinition()+" "+saga.GetName())
		}
		return "", problem.Usage(
			fmt.Sprintf("sagas of %d definitions were started with the request id %q: %s", len(found), flags.requestID,
				strings.Join(names, ", ")),
			"Add --definition to say which one to show.")
	}
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
