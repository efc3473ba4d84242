package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// decision returns who decides and why, both of which the journal keeps.
func (a *app) decision(reason string) (*treatyv1.Decision, error) {
	reason = strings.TrimSpace(reason)
	if reason == "" {
		return nil, problem.Usage("a decision needs a reason, for those who read the journal later", "Say why with --reason.")
	}
	if strings.TrimSpace(a.flags.actor) == "" {
		return nil, problem.Usage("a decision needs to know who decides", "Say who with --actor.")
	}
	return &treatyv1.Decision{Actor: a.flags.actor, Reason: reason}, nil
}

func (a *app) cancelCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "cancel NAME --reason WHY",
		Short: "Cancel a saga: what it did is undone",
		Long: `Cancel a saga: what it did is undone, which needs none of its code. A saga that is past its pivot or has succeeded can't be
cancelled. Cancelling one that is being compensated, or has been, changes nothing.`,
		Example:           `  treaty sagas cancel sagas/x --reason 'the customer withdrew'`,
		Args:              exact("NAME"),
		ValidArgsFunction: a.completeSaga(`state = "RUNNING" OR state = "SUSPENDED"`),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			name, err := parseName(args[0])
			if err != nil {
				return err
			}
			decision, err := a.decision(reason)
			if err != nil {
				return err
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			call, cancel := a.unary(ctx)
			defer cancel()
			saga, err := c.Sagas.CancelSaga(call, &treatyv1.CancelSagaRequest{Name: name, Decision: decision})
			if err != nil {
				return a.explain(err, problem.Subject{Doing: "cancelling the saga", Saga: name})
			}
			a.printStanding(c, saga)
			return nil
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "`WHY` it is cancelled; journaled")
	return cmd
}

// given is the value of --mark-done without a reply; it can't be a message in JSON.
const given = "true"

// replyFlag is a flag whose value may be left out. To pflag, such a flag is a bool.
type replyFlag string

// String returns the value.
func (f *replyFlag) String() string { return string(*f) }

// Set takes the value.
func (f *replyFlag) Set(value string) error {
	*f = replyFlag(value)
	return nil
}

// Type says how pflag shows it.
func (f *replyFlag) Type() string { return "bool" }

// resumeFlags are the flags of sagas resume.
type resumeFlags struct {
	reason      string
	retry       bool
	retryEdited string
	markDone    replyFlag
	markRefused bool
}

func (a *app) resumeCommand() *cobra.Command {
	var flags resumeFlags
	cmd := &cobra.Command{
		Use:   "resume NAME --reason WHY [--retry | --retry-edited JSON | --mark-done [JSON] | --mark-refused]",
		Short: "Decide how a suspended saga goes on",
		Long: `Decide how a suspended saga goes on. treaty sagas get NAME shows which decisions fit.

JSON is the message itself, @FILE, or - for standard input.`,
		Example: `  treaty sagas resume sagas/x --reason 'fixed in release 7'
  treaty sagas resume sagas/x --reason 'account number was wrong' --retry-edited @request.json
  treaty sagas resume sagas/x --reason 'released by hand, ticket 4711' --mark-done`,
		Args: func(cmd *cobra.Command, args []string) error {
			if _, _, ok := splitReply(flags, args); ok {
				return nil
			}
			return exact("NAME")(cmd, args)
		},
		ValidArgsFunction: a.completeSaga(`state = "SUSPENDED"`),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if name, reply, ok := splitReply(flags, args); ok {
				flags.markDone, args = replyFlag(reply), []string{name}
			}
			return a.resume(ctx, args[0], flags)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.reason, "reason", "", "`WHY` this is right; journaled")
	set.BoolVar(&flags.retry, "retry", false, "run the code again, or send the stuck command again (the default)")
	set.StringVar(&flags.retryEdited, "retry-edited", "", "send the stuck compensation with this request, `JSON`, in the place of the derived one")
	set.Var(&flags.markDone, "mark-done", "take the stuck command as done, with this reply, `JSON`; a pivot needs one, a compensation doesn't")
	set.Lookup("mark-done").NoOptDefVal = given
	set.BoolVar(&flags.markRefused, "mark-refused", false, "take the stuck pivot as certainly not executed")
	cmd.MarkFlagsMutuallyExclusive("retry", "retry-edited", "mark-done", "mark-refused")
	return cmd
}

// splitReply finds the reply in "--mark-done JSON NAME" and "NAME --mark-done JSON": a flag whose value may be left out takes
// none from the next word, so both words come as arguments.
func splitReply(flags resumeFlags, args []string) (name, reply string, ok bool) {
	if flags.markDone != given || len(args) != 2 {
		return "", "", false
	}
	isJSON := func(arg string) bool {
		arg = strings.TrimSpace(arg)
		return arg == "-" || strings.HasPrefix(arg, "{") || strings.HasPrefix(arg, "@")
	}
	switch {
	case isJSON(args[1]) && !isJSON(args[0]):
		return args[0], args[1], true
	case isJSON(args[0]) && !isJSON(args[1]):
		return args[1], args[0], true
	default:
		return "", "", false
	}
}

func (a *app) resume(ctx context.Context, nameArg string, flags resumeFlags) error {
	name, err := parseName(nameArg)
	if err != nil {
		return err
	}
	decision, err := a.decision(flags.reason)
	if err != nil {
		return err
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	request := &treatyv1.ResumeSagaRequest{Name: name, Decision: decision}
	if err := a.how(ctx, c, request, flags); err != nil {
		return err
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	saga, err := c.Sagas.ResumeSaga(call, request)
	if err != nil {
		return a.explain(err, problem.Subject{Doing: "resuming the saga", Saga: name})
	}
	a.printStanding(c, saga)
	return nil
}

// how fills in how the saga goes on.
func (a *app) how(ctx context.Context, c *connection.Client, request *treatyv1.ResumeSagaRequest, flags resumeFlags) error {
	switch {
	case flags.retryEdited != "":
		saga, err := a.getSaga(ctx, c, request.GetName())
		if err != nil {
			return err
		}
		if !resource.IsCompensationStuck(saga) {
			return unfit(saga, "--retry-edited is for a stuck compensation")
		}
		edited, err := a.stuckMessage(c, saga, "--retry-edited", flags.retryEdited)
		if err != nil {
			return err
		}
		request.How = &treatyv1.ResumeSagaRequest_RetryEdited_{RetryEdited: &treatyv1.ResumeSagaRequest_RetryEdited{Request: edited}}
	case flags.markDone == given:
		request.How = &treatyv1.ResumeSagaRequest_MarkDone_{MarkDone: &treatyv1.ResumeSagaRequest_MarkDone{}}
	case flags.markDone != "":
		saga, err := a.getSaga(ctx, c, request.GetName())
		if err != nil {
			return err
		}
		if !resource.IsCompensationStuck(saga) && saga.GetSuspension().GetReason() != treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN {
			return unfit(saga, "--mark-done is for a stuck compensation or pivot")
		}
		reply, err := a.stuckMessage(c, saga, "--mark-done", string(flags.markDone))
		if err != nil {
			return err
		}
		request.How = &treatyv1.ResumeSagaRequest_MarkDone_{MarkDone: &treatyv1.ResumeSagaRequest_MarkDone{Reply: reply}}
	case flags.markRefused:
		request.How = &treatyv1.ResumeSagaRequest_MarkRefused_{MarkRefused: &treatyv1.ResumeSagaRequest_MarkRefused{}}
	default:
		request.How = &treatyv1.ResumeSagaRequest_Retry_{Retry: &treatyv1.ResumeSagaRequest_Retry{}}
	}
	return nil
}

// unfit says that a decision doesn't fit why a saga is suspended, or that it isn't.
func unfit(saga *treatyv1.Saga, rule string) error {
	standing := "it is " + resource.StateName(saga.GetState())
	if saga.GetSuspension() != nil {
		standing = render.SuspensionText(saga.GetSuspension().GetReason())
	}
	return &problem.Problem{
		Exit:    problem.ExitFailure,
		Code:    codes.FailedPrecondition,
		Message: rule + ", but of " + saga.GetName() + ": " + standing,
		Hints:   []string{"treaty sagas get " + render.ShellQuote(saga.GetName()) + " shows what fits."},
	}
}

// stuckMessage reads the request (--retry-edited) or the reply (--mark-done) of the command at which a saga is stuck.
func (a *app) stuckMessage(c *connection.Client, saga *treatyv1.Saga, flag, value string) (*anypb.Any, error) {
	step := resource.SuspendedStep(saga)
	name := step.GetMethod()
	if resource.IsCompensationStuck(saga) {
		name = step.GetCompensationMethod()
	}
	method, err := c.Schema.Method(name)
	if err != nil {
		if code := status.Code(err); code != codes.NotFound && code != codes.Unimplemented {
			return nil, a.explain(err, problem.Subject{})
		}
		return nil, &problem.Problem{
			Exit:    problem.ExitFailure,
			Message: "the types of " + quote(name) + " aren't known to the orchestrator's server reflection, so JSON can't be read as one of them",
			Hints:   []string{"An orchestrator that is built with this participant's contract knows them."},
		}
	}
	var descriptor protoreflect.MessageDescriptor = method.Input()
	if flag == "--mark-done" {
		descriptor = method.Output()
	}
	in, err := a.readInput(flag, value)
	if err != nil {
		return nil, err
	}
	message, err := in.parse(c.Schema, descriptor)
	if err != nil {
		return nil, err
	}
	return schema.Pack(message)
}
