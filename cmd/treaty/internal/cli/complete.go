package cli

import (
	"context"
	"slices"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// completeFlags are the flags of sagas complete.
type completeFlags struct {
	reply        string
	refuse       string
	message      string
	compensation bool
	reason       string
	etag         string
	force        bool
}

func (a *app) completeCommand() *cobra.Command {
	var flags completeFlags
	cmd := &cobra.Command{
		Use:   "complete STEP (--reply JSON | --refuse CODE --message WHY) --reason WHY",
		Short: "Complete a pending command",
		Long: `Complete a command that its participant accepted and never completed, on the participant's behalf: as
done with a reply, or as certainly not executed. STEP is sagas/x/steps/2 or just x/2. The journal keeps who
has decided that, and why. A command that its participant isn't known to have accepted may still be executed:
completing it needs --force.`,
		Example: `  treaty sagas complete x/2 --reply '{"inspection":"inspections/7"}' --reason 'ticket 4711'
  treaty sagas complete x/2 --refuse FAILED_PRECONDITION --message 'the passport is forged' --reason 'ticket 4711'
  treaty sagas complete x/2 --compensation --reply '{}' --reason 'discarded by hand'`,
		Args: exact("STEP"),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.complete(ctx, args[0], flags)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.reply, "reply", "",
		"the command is done, with this reply: `JSON`, @FILE, or - for standard input")
	set.StringVar(&flags.refuse, "refuse", "",
		"the command was certainly not executed: a gRPC `CODE`, e.g. FAILED_PRECONDITION")
	set.StringVar(&flags.message, "message", "", "`WHY` the command was refused")
	set.BoolVar(&flags.compensation, "compensation", false, "complete the step's compensation, not its action")
	set.StringVar(&flags.reason, "reason", "", "explain `WHY` you decide about the command; the journal keeps it")
	set.StringVar(&flags.etag, "etag", "", etagHelp)
	set.BoolVar(&flags.force, "force", false,
		"complete the command although its participant hasn't accepted it, and may still execute it")
	cmd.MarkFlagsMutuallyExclusive("reply", "refuse")
	cmd.MarkFlagsOneRequired("reply", "refuse")
	return cmd
}

func (a *app) complete(ctx context.Context, text string, flags completeFlags) error {
	saga, step, err := parseStep(text)
	if err != nil {
		return err
	}
	request := &treatyv1.CompleteStepRequest{
		Name: step, Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION, Etag: flags.etag, Force: flags.force,
	}
	if flags.compensation {
		request.Direction = treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
	}
	if flags.refuse != "" {
		code, err := parseCode(flags.refuse)
		if err != nil {
			return err
		}
		refusal := &treatyv1.Failure{Code: int32(code), Message: flags.message}
		request.How = &treatyv1.CompleteStepRequest_Refusal{Refusal: refusal}
	} else if flags.message != "" {
		return problem.Usage("--message says why a command was refused", "Use it with --refuse, or leave it out.")
	}
	if request.Decision, err = a.decision(flags.reason); err != nil {
		return err
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	if request.How == nil {
		reply, err := a.completionReply(ctx, request, flags.reply)
		if err != nil {
			return err
		}
		request.How = &treatyv1.CompleteStepRequest_Reply{Reply: reply}
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	if _, err := a.client.Sagas.CompleteStep(call, request); err != nil {
		return a.explain(err, problem.Subject{Doing: "completing " + step, Saga: saga, Step: true})
	}
	after, err := a.getSaga(ctx, saga)
	if err != nil {
		return err
	}
	a.printStanding(after)
	return nil
}

// completionReply reads --reply as the message that the method of the request's step returns. It sets the request's
// etag to that of the saga that it reads, unless it is set.
func (a *app) completionReply(
	ctx context.Context, request *treatyv1.CompleteStepRequest, reply string,
) (*anypb.Any, error) {
	in, err := a.readInput("--reply", reply)
	if err != nil {
		return nil, err
	}
	sagaName, _, err := parseStep(request.GetName())
	if err != nil {
		return nil, err
	}
	saga, err := a.getSaga(ctx, sagaName)
	if err != nil {
		return nil, err
	}
	if request.GetEtag() == "" {
		request.Etag = saga.GetEtag()
	}
	steps := saga.GetSteps()
	i := slices.IndexFunc(steps, func(step *treatyv1.Step) bool { return step.GetName() == request.GetName() })
	if i < 0 {
		return nil, problem.Usage(sagaName+" has no step "+wire.StepPath(request.GetName()),
			"To show its steps, run treaty sagas get "+render.ShellQuote(sagaName)+".")
	}
	name := steps[i].GetMethod()
	if request.GetDirection() == treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION {
		if name = steps[i].GetCompensationMethod(); name == "" {
			return nil, problem.Usage(request.GetName() + " has no compensation")
		}
	}
	method, err := a.client.Schema.Method(name)
	if err != nil {
		return nil, a.explainer().ExplainReflection(err)
	}
	return a.pack(in, method.Output())
}
