package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// completeFlags are the flags of sagas complete.
type completeFlags struct {
	reply        string
	refuse       string
	message      string
	compensation bool
}

func (a *app) completeCommand() *cobra.Command {
	var flags completeFlags
	cmd := &cobra.Command{
		Use:   "complete STEP (--reply JSON | --refuse CODE --message WHY)",
		Short: "Complete a command that its participant accepted",
		Long: `Complete a command that its participant accepted and never completed, in the participant's place: as done with a reply, or as certainly
not executed. STEP is sagas/x/steps/2 or just x/2.`,
		Example: `  treaty sagas complete sagas/x/steps/2 --reply '{"inspection":"inspections/7"}'
  treaty sagas complete x/2 --refuse FAILED_PRECONDITION --message 'the passport is forged'
  treaty sagas complete x/2 --compensation --reply '{}'`,
		Args: exact("STEP"),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.complete(ctx, args[0], flags)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.reply, "reply", "", "the command is done, with this reply: `JSON`, @FILE, or - for standard input")
	set.StringVar(&flags.refuse, "refuse", "", "the command was certainly not executed: the gRPC `CODE`, e.g. FAILED_PRECONDITION")
	set.StringVar(&flags.message, "message", "", "`WHY` it was refused")
	set.BoolVar(&flags.compensation, "compensation", false, "complete the step's compensation, not its action")
	cmd.MarkFlagsMutuallyExclusive("reply", "refuse")
	cmd.MarkFlagsOneRequired("reply", "refuse")
	return cmd
}

// parseCode reads the value of --refuse.
func parseCode(text string) (codes.Code, error) {
	code, ok := render.ParseCode(text)
	if !ok || code == codes.OK {
		return 0, problem.Usage("there is no gRPC code "+quote(text), "Codes that mean \"certainly not executed\" are INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, OUT_OF_RANGE and PERMISSION_DENIED.")
	}
	return code, nil
}

func (a *app) complete(ctx context.Context, text string, flags completeFlags) error {
	saga, step, err := parseStep(text)
	if err != nil {
		return err
	}
	request := &treatyv1.CompleteStepRequest{Name: step, Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION}
	if flags.compensation {
		request.Direction = treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
	}
	if flags.refuse != "" {
		code, err := parseCode(flags.refuse)
		if err != nil {
			return err
		}
		request.How = &treatyv1.CompleteStepRequest_Refusal{Refusal: &treatyv1.Failure{Code: int32(code), Message: flags.message}}
	} else if flags.message != "" {
		return problem.Usage("--message says why a command was refused", "Give it with --refuse, or leave it out.")
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if request.How == nil {
		if err := a.completionReply(ctx, c, saga, request, flags); err != nil {
			return err
		}
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	if _, err := c.Sagas.CompleteStep(call, request); err != nil {
		return a.explain(err, problem.Subject{Doing: "completing " + step, Saga: saga, Step: true})
	}
	after, err := a.getSaga(ctx, c, saga)
	if err != nil {
		return err
	}
	a.printStanding(c, after)
	return nil
}

// completionReply puts the reply into a completion, as the message that the step's method returns.
func (a *app) completionReply(ctx context.Context, c *connection.Client, saga string, request *treatyv1.CompleteStepRequest, flags completeFlags) error {
	in, err := a.readInput("--reply", flags.reply)
	if err != nil {
		return err
	}
	standing, err := a.getSaga(ctx, c, saga)
	if err != nil {
		return err
	}
	steps := standing.GetSteps()
	i := slices.IndexFunc(steps, func(step *treatyv1.Step) bool { return step.GetName() == request.GetName() })
	if i < 0 {
		return problem.Usage(saga+" has no step "+resource.StepPath(request.GetName()), "treaty sagas get "+render.ShellQuote(saga)+" shows its steps.")
	}
	name := steps[i].GetMethod()
	if flags.compensation {
		if name = steps[i].GetCompensationMethod(); name == "" {
			return problem.Usage(request.GetName() + " has no compensation")
		}
	}
	method, err := c.Schema.Method(name)
	if err != nil {
		return a.explainer().ExplainReflection(err)
	}
	message, err := in.parse(c.Schema, method.Output())
	if err != nil {
		return err
	}
	reply, err := schema.Pack(message)
	if err != nil {
		return err
	}
	request.How = &treatyv1.CompleteStepRequest_Reply{Reply: reply}
	return nil
}
