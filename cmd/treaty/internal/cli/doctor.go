package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check the participants of the orchestrator",
		Long: `List the participants that the orchestrator is configured with: whether it reaches them, whether their
contracts agree with its own, and what to do if not. CONTRACTS is

  verified    they agree; differences that break nothing are listed
  drifted     they don't: commands that one side could misunderstand aren't sent
  unverified  they can't be compared, for example since the participant has no server reflection
  unchecked   the orchestrator is configured not to compare them
  unknown     there was no connection yet

Exit codes: 0 if all participants are reached and no command waits for a contract, 1 if not.`,
		Args: exact(),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, _ []string) error { return a.doctor(ctx) }),
	}
}

func (a *app) doctor(ctx context.Context) error {
	if err := a.connect(ctx); err != nil {
		return err
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	response, err := a.client.Sagas.ListParticipants(call, &treatyv1.ListParticipantsRequest{})
	if err != nil {
		return a.explain(err, problem.Subject{Doing: "listing the participants"})
	}
	if a.flags.json {
		for _, participant := range response.GetParticipants() {
			a.printJSON(participant)
		}
	} else {
		a.print(a.view(render.SagaPayloads).Participants(response.GetParticipants()))
	}
	for _, participant := range response.GetParticipants() {
		if !participant.GetReachable() || participant.GetProblem() != "" || len(participant.GetParkedMethods()) > 0 {
			return exitError(problem.ExitFailure)
		}
	}
	return nil
}
