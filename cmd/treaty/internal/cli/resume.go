package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// withoutReply is the value of --mark-done without a reply. It isn't a message in JSON.
const withoutReply = "true"

// replyFlag is a flag whose value is optional. pflag requires such a flag to have the type bool.
type replyFlag string

// String returns the value.
func (f *replyFlag) String() string { return string(*f) }

// Set sets the value.
func (f *replyFlag) Set(value string) error {
	*f = replyFlag(value)
	return nil
}

// Type returns "bool".
func (f *replyFlag) Type() string { return "bool" }

// resumeFlags are the flags of sagas resume.
type resumeFlags struct {
	bulkFlags

	reason      string
	etag        string
	retry       bool
	retryEdited string
	fields      []string
	markDone    replyFlag
	markRefused bool
	takeOver    bool
}

func (a *app) resumeCommand() *cobra.Command {
	var flags resumeFlags
	cmd := &cobra.Command{
		Use: "resume (NAME | --filter FILTER --yes) --reason WHY " +
			"[--retry | --retry-edited JSON | --mark-done [JSON] | --mark-refused | --take-over]",
		Short: "Resume a suspended saga, or many",
		Long: `Resume a suspended saga with a decision. To show which decisions fit, run treaty sagas get NAME.
The saga's state is printed after its next change, or after two seconds without one. The exit code is 1 if
it is suspended again.

With --etag, which treaty sagas get shows, the saga is resumed only if nothing has changed since. Repeat a
call whose outcome you don't know with the same --etag: it never resumes the saga from its next suspension.

With --filter, resume all suspended sagas that it selects, one after the other, with the same decision,
and print the outcome of each. The exit code is 1 if any of them couldn't be resumed, or has changed since
it was selected. With --dry-run, only list them. Without --yes, only count them.

JSON is the message itself, @FILE, or - for standard input. With --fields, only these fields of the request
that was derived from the step are replaced. All others keep their values, also those that aren't shown.`,
		Example: `  treaty sagas resume sagas/x --reason 'fixed in release 7'
  treaty sagas resume sagas/x --reason 'account number was wrong' --retry-edited @request.json
  treaty sagas resume sagas/x --reason 'released by hand, ticket 4711' --mark-done
  treaty sagas resume --filter 'suspension_reason = "RESTORED_OVERDUE"' --dry-run
  treaty sagas resume --filter 'suspension_reason = "RESTORED_OVERDUE"' --reason 'events published' --retry --yes`,
		Args: func(cmd *cobra.Command, args []string) error {
			if flags.filter != "" {
				return exact()(cmd, args)
			}
			if _, _, ok := splitReply(flags, args); ok {
				return nil
			}
			return exact("NAME")(cmd, args)
		},
		ValidArgsFunction: a.completeSaga(`state = "SUSPENDED"`),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			if flags.filter != "" {
				return a.resumeAll(ctx, flags)
			}
			if err := flags.checkOne(); err != nil {
				return err
			}
			if len(flags.fields) > 0 && flags.retryEdited == "" {
				return problem.Usage("--fields is for --retry-edited")
			}
			if name, reply, ok := splitReply(flags, args); ok {
				flags.markDone, args = replyFlag(reply), []string{name}
			}
			return a.resume(ctx, args[0], flags)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.reason, "reason", "", "explain `WHY`; the journal keeps it")
	set.StringVar(&flags.etag, "etag", "", etagHelp)
	set.BoolVar(&flags.retry, "retry", false, "run the code again, or send the stuck command again (the default)")
	set.StringVar(&flags.retryEdited, "retry-edited", "",
		"send the stuck compensation with this request, `JSON`, instead of the derived one")
	set.StringSliceVar(&flags.fields, "fields", nil,
		"with --retry-edited, replace only these `FIELDS` of the derived request; keep the others, also hidden ones")
	set.Var(&flags.markDone, "mark-done",
		"mark the stuck command as done, with this reply, `JSON`; required for an action, optional for a compensation")
	set.Lookup("mark-done").NoOptDefVal = withoutReply
	set.BoolVar(&flags.markRefused, "mark-refused", false, "mark the stuck action as certainly not executed")
	set.BoolVar(&flags.takeOver, "take-over", false,
		"take what the participant has under the command id of the stuck action, which is another request")
	flags.register(set, "resume", "suspended")
	cmd.MarkFlagsMutuallyExclusive("retry", "retry-edited", "mark-done", "mark-refused", "take-over")
	cmd.MarkFlagsMutuallyExclusive("filter", "retry-edited")
	cmd.MarkFlagsMutuallyExclusive("filter", "etag")
	return cmd
}

// splitReply finds the reply in "--mark-done JSON NAME" and "NAME --mark-done JSON". pflag never takes the next word as
// the value of a flag whose value is optional, so both words arrive as arguments.
func splitReply(flags resumeFlags, args []string) (name, reply string, ok bool) {
	if flags.markDone != withoutReply || len(args) != 2 {
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

func (a *app) resume(ctx context.Context, text string, flags resumeFlags) error {
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
	request := &treatyv1.ResumeSagaRequest{Name: name, Decision: decision, Etag: flags.etag}
	saga, err := a.getSaga(ctx, name)
	if err != nil {
		return err
	}
	if request.Etag == "" {
		request.Etag = saga.GetEtag() // so that this call, if it arrives twice, doesn't resume the next suspension
	}
	if err := a.decideHow(request, saga, flags); err != nil {
		return err
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	saga, err = a.client.Sagas.ResumeSaga(call, request)
	if err != nil {
		return a.explain(err, problem.Subject{Doing: "resuming the saga", Saga: name})
	}
	a.progress.say("watching what becomes of %s", name)
	saga = a.settled(ctx, saga)
	a.printStanding(saga)
	if saga.GetState() == treatyv1.SagaState_SAGA_STATE_SUSPENDED {
		return suspendedAgain(saga)
	}
	return nil
}

// settled watches a saga that was just resumed until it changes or a.Settle has passed, and returns it as it is then.
// What suspended the saga usually happens again at once, if it does.
func (a *app) settled(ctx context.Context, resumed *treatyv1.Saga) *treatyv1.Saga {
	if resumed.GetState() == treatyv1.SagaState_SAGA_STATE_SUSPENDED || resource.IsFinal(resumed.GetState()) {
		return resumed
	}
	ctx, cancel := context.WithTimeout(ctx, a.Settle)
	defer cancel()
	changes, err := a.client.Sagas.WatchSaga(ctx, &treatyv1.WatchSagaRequest{Name: resumed.GetName()})
	if err != nil {
		return resumed
	}
	for {
		change, err := changes.Recv()
		if err != nil {
			return resumed // the decision is recorded, whether or not the saga can be watched
		}
		saga := change.GetSaga()
		if saga.GetUpdateTime().AsTime().After(resumed.GetUpdateTime().AsTime()) {
			return saga
		}
	}
}

// suspendedAgain reports that a saga that was resumed is suspended again.
func suspendedAgain(saga *treatyv1.Saga) error {
	suspension := saga.GetSuspension()
	p := &problem.Error{
		Exit: problem.ExitFailure,
		Message: saga.GetName() + " was resumed and is SUSPENDED again: " +
			render.SuspensionText(suspension.GetReason()),
		Hints: []string{
			"To show the possible decisions, run treaty sagas get " + render.ShellQuote(saga.GetName()) + ".",
		},
	}
	if suspension.GetFailure() != nil {
		p.Notes = append(p.Notes, render.FailureText(suspension.GetFailure()))
	}
	return p
}

// resumeAll resumes all suspended sagas that a filter selects.
func (a *app) resumeAll(ctx context.Context, flags resumeFlags) error {
	if flags.markDone != "" && flags.markDone != withoutReply {
		return problem.Usage("--mark-done can't have a reply with --filter: each saga needs its own")
	}
	request := new(treatyv1.ResumeSagaRequest)
	if !flags.dryRun {
		var err error
		if request.Decision, err = a.decision(flags.reason); err != nil {
			return err
		}
		if err := a.decideHow(request, nil, flags); err != nil {
			return err
		}
	}
	all := &bulk{
		bulkFlags: flags.bulkFlags, app: a, states: `state = "SUSPENDED"`, verb: "resume", past: "resumed",
		doing: "resuming",
		decide: func(ctx context.Context, seen *treatyv1.Saga) (*treatyv1.Saga, error) {
			request.Name, request.Etag = seen.GetName(), seen.GetEtag()
			return a.client.Sagas.ResumeSaga(ctx, request)
		},
	}
	return all.run(ctx)
}

// decideHow sets the request's decision from the flags. The saga is needed only for flags that have a message.
func (a *app) decideHow(request *treatyv1.ResumeSagaRequest, saga *treatyv1.Saga, flags resumeFlags) error {
	switch {
	case flags.retryEdited != "":
		if !resource.IsCompensationStuck(saga) {
			return unfit(saga, "--retry-edited is for a stuck compensation")
		}
		edited, err := a.stuckMessage(saga, "--retry-edited", flags.retryEdited)
		if err != nil {
			return err
		}
		mask, err := a.fieldMask(edited, flags.fields)
		if err != nil {
			return err
		}
		request.How = &treatyv1.ResumeSagaRequest_RetryEdited_{
			RetryEdited: &treatyv1.ResumeSagaRequest_RetryEdited{Request: edited, UpdateMask: mask},
		}
	case flags.markDone == withoutReply:
		request.How = &treatyv1.ResumeSagaRequest_MarkDone_{MarkDone: &treatyv1.ResumeSagaRequest_MarkDone{}}
	case flags.markDone != "":
		if !resource.IsActionStuck(saga) && !resource.IsCompensationStuck(saga) {
			return unfit(saga, "--mark-done is for a stuck compensation or action")
		}
		reply, err := a.stuckMessage(saga, "--mark-done", string(flags.markDone))
		if err != nil {
			return err
		}
		request.How = &treatyv1.ResumeSagaRequest_MarkDone_{
			MarkDone: &treatyv1.ResumeSagaRequest_MarkDone{Reply: reply},
		}
	case flags.markRefused:
		request.How = &treatyv1.ResumeSagaRequest_MarkRefused_{MarkRefused: &treatyv1.ResumeSagaRequest_MarkRefused{}}
	case flags.takeOver:
		request.How = &treatyv1.ResumeSagaRequest_TakeOver_{TakeOver: &treatyv1.ResumeSagaRequest_TakeOver{}}
	default:
		request.How = &treatyv1.ResumeSagaRequest_Retry_{Retry: &treatyv1.ResumeSagaRequest_Retry{}}
	}
	return nil
}

// fieldMask returns the mask of fields of a message, which are written as in the contract or as in JSON. It returns nil
// without fields.
func (a *app) fieldMask(message *anypb.Any, fields []string) (*fieldmaskpb.FieldMask, error) {
	if len(fields) == 0 {
		return nil, nil
	}
	descriptor, err := a.client.Schema.Message(message.MessageName())
	if err != nil {
		return nil, a.explainer().ExplainReflection(err)
	}
	mask := new(fieldmaskpb.FieldMask)
	for _, path := range fields {
		var names []string
		at := descriptor
		for name := range strings.SplitSeq(path, ".") {
			var field protoreflect.FieldDescriptor
			if at != nil {
				if field = at.Fields().ByName(protoreflect.Name(name)); field == nil {
					field = at.Fields().ByJSONName(name)
				}
			}
			if field == nil {
				return nil, problem.Usage("--fields: "+quote(path)+" isn't a field of "+string(descriptor.FullName()),
					"Write its name, or the names of the fields on the way to it, joined by dots.")
			}
			names, at = append(names, string(field.Name())), field.Message()
		}
		mask.Paths = append(mask.Paths, strings.Join(names, "."))
	}
	return mask, nil
}

// unfit reports that a decision doesn't fit a saga's state or the reason why it is suspended.
func unfit(saga *treatyv1.Saga, rule string) error {
	state := "is " + resource.StateName(saga.GetState())
	if saga.GetSuspension() != nil {
		state += ": " + render.SuspensionText(saga.GetSuspension().GetReason())
	}
	return &problem.Error{
		Exit:    problem.ExitFailure,
		Code:    codes.FailedPrecondition,
		Message: rule + ", but " + saga.GetName() + " " + state,
		Hints: []string{
			"To show the possible decisions, run treaty sagas get " + render.ShellQuote(saga.GetName()) + ".",
		},
	}
}

// stuckMessage reads the request (--retry-edited) or the reply (--mark-done) of the command at which a saga is stuck.
func (a *app) stuckMessage(saga *treatyv1.Saga, flag, value string) (*anypb.Any, error) {
	step := resource.SuspendedStep(saga)
	name := step.GetMethod()
	if resource.IsCompensationStuck(saga) {
		name = step.GetCompensationMethod()
	}
	method, err := a.client.Schema.Method(name)
	if err != nil {
		if code := status.Code(err); code != codes.NotFound && code != codes.Unimplemented {
			return nil, a.explain(err, problem.Subject{})
		}
		return nil, &problem.Error{
			Exit: problem.ExitFailure,
			Message: flag + " can't be read: the orchestrator's server reflection doesn't know the types of " +
				quote(name),
			Hints: []string{"Use an orchestrator that is built with this participant's contract."},
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
	return a.pack(in, descriptor)
}
