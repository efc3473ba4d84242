package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// startFlags are the flags of start.
type startFlags struct {
	data      string
	requestID string
	sagaID    string
	wait      bool
}

func (a *app) startCommand() *cobra.Command {
	var flags startFlags
	cmd := &cobra.Command{
		Use:   "start METHOD --data JSON",
		Short: "Start a saga",
		Long: `Start a saga. METHOD is the method of its definition, e.g. acme.customer.v1.CustomerSagas/ChangeAddress.
To list the definitions, run treaty definitions.

The saga's name is printed at once. If a saga with the same request id or saga id exists and has ended or is
suspended, a message on stderr says so. With --wait, wait until the saga has ended, then print its reply. With
or without --wait, the exit code is 3 if the saga ended COMPENSATED. With --wait --json, the name goes to
stderr and the ended saga to stdout.`,
		Example: `  treaty start acme.customer.v1.CustomerSagas/ChangeAddress --data @request.json --request-id r-4711
  treaty start acme.customer.v1.CustomerSagas/ChangeAddress --data '{"customer": "customers/7"}' --wait`,
		Args:              exact("METHOD"),
		ValidArgsFunction: a.completeMethod,
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.start(ctx, strings.TrimPrefix(args[0], "/"), flags)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.data, "data", "{}", "the request: `JSON`, @FILE, or - for standard input")
	set.StringVar(&flags.requestID, "request-id", "",
		"make the start safe to repeat: the same `ID` with the same data attaches to the existing saga")
	set.StringVar(&flags.sagaID, "saga-id", "", "the last part of the saga's name (default: the orchestrator chooses)")
	set.BoolVar(&flags.wait, "wait", false, "wait until the saga has ended and print its reply")
	return cmd
}

func (a *app) start(ctx context.Context, definition string, flags startFlags) error {
	in, err := a.readInput("--data", flags.data)
	if err != nil {
		return err
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	method, err := a.definition(definition)
	if err != nil {
		return err
	}
	message, err := a.decode(in, method.Input())
	if err != nil {
		return err
	}
	if err := setRequestID(message, flags.requestID); err != nil {
		return err
	}
	request, err := packed(message)
	if err != nil {
		return err
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	saga, err := a.client.Sagas.CreateSaga(call, &treatyv1.CreateSagaRequest{
		Definition: definition,
		Request:    request,
		RequestId:  flags.requestID,
		SagaId:     flags.sagaID,
	})
	if err != nil {
		return a.explain(err, problem.Subject{
			Doing: "starting the saga", Start: true, Again: safeToRepeat(message, flags),
		})
	}
	switch name := render.Clean(saga.GetName()); {
	case a.flags.json && !flags.wait:
		a.printJSON(saga)
	case a.flags.json:
		_, _ = fmt.Fprintln(a.Stderr, name)
	default:
		a.print(name + "\n")
	}
	if flags.wait {
		return a.waitFor(ctx, saga.GetName())
	}
	return a.reportEarlier(saga)
}

// reportEarlier says so on stderr if the saga of a start isn't on its way: a start with a request id or saga id that
// was used before returns the existing saga. It returns an exitError for a compensated saga.
func (a *app) reportEarlier(saga *treatyv1.Saga) error {
	name := render.Clean(saga.GetName())
	state := resource.StateName(saga.GetState())
	switch {
	case resource.IsFinal(saga.GetState()):
		note := name + " has already ended " + state
		if saga.GetFailure() != nil {
			note += ": " + render.Clean(render.FailureText(saga.GetFailure()))
		}
		if saga.GetRequestId() != "" {
			note += ". To start another saga, use another request id"
		}
		_, _ = fmt.Fprintln(a.Stderr, note+".")
	case saga.GetState() == treatyv1.SagaState_SAGA_STATE_SUSPENDED:
		a.reportSuspended(saga)
	case saga.GetState() == treatyv1.SagaState_SAGA_STATE_COMPENSATING:
		_, _ = fmt.Fprintf(a.Stderr, "%s is already %s.\n", name, state)
	}
	if saga.GetState() == treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		return exitError(problem.ExitCompensated)
	}
	return nil
}

// setRequestID sets the message's request id field, if its type has one.
func setRequestID(message proto.Message, id string) error {
	reflected := message.ProtoReflect()
	field := schema.RequestIDField(reflected.Descriptor())
	if field == nil || id == "" {
		return nil
	}
	switch current := reflected.Get(field).String(); current {
	case id:
	case "":
		reflected.Set(field, protoreflect.ValueOfString(id))
	default:
		return problem.Usage(
			fmt.Sprintf("--request-id is %s, but %s in the data is %s", quote(id), field.JSONName(), quote(current)),
			"Set only one of them, or set both to the same id.")
	}
	return nil
}

// safeToRepeat returns the flag or the field of the data that makes a start safe to repeat, or "" if none does.
func safeToRepeat(message proto.Message, flags startFlags) string {
	field := schema.RequestIDField(message.ProtoReflect().Descriptor())
	switch {
	case flags.requestID != "":
		return "--request-id"
	case field != nil && message.ProtoReflect().Get(field).String() != "":
		return field.JSONName()
	case flags.sagaID != "":
		return "--saga-id"
	default:
		return ""
	}
}

// definition returns the method of a saga definition. If the name is unknown, the problem lists the definitions.
func (a *app) definition(name string) (protoreflect.MethodDescriptor, error) {
	method, err := a.client.Schema.Method(name)
	if err == nil && schema.StartsSaga(method) {
		return method, nil
	}
	if err != nil && status.Code(err) != codes.NotFound {
		return nil, a.explainer().ExplainReflection(err)
	}
	message := "unknown saga definition " + quote(name)
	if err == nil {
		message = name + " is a method, but not a saga definition"
	}
	p := problem.Usage(message)
	served, err := a.client.Schema.Definitions()
	if err != nil {
		return nil, a.explainer().ExplainReflection(err)
	}
	if len(served) == 0 {
		p.Hints = append(p.Hints, a.noDefinitions())
		return nil, p
	}
	p.Hints = append(p.Hints, "The saga definitions are:")
	for _, definition := range served {
		p.Hints = append(p.Hints, "  "+definition.Name)
	}
	return nil, p
}
