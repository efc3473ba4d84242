package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
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
		Long: `Start a saga by its definition's method, e.g. acme.customer.v1.CustomerSagas/ChangeAddress; treaty definitions lists them.
Prints the saga's name at once. With --wait it then waits for the end, prints the reply, and exits with 3 when the saga was
COMPENSATED; with --json it prints the name on stderr and the ended saga on stdout.`,
		Example: `  treaty start acme.customer.v1.CustomerSagas/ChangeAddress --data '{"customer": "customers/7"}' --wait
  treaty start acme.customer.v1.CustomerSagas/ChangeAddress --data @request.json --request-id order-4711`,
		Args:              exact("METHOD"),
		ValidArgsFunction: a.completeMethod,
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.start(ctx, args[0], flags)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.data, "data", "{}", "the request: `JSON`, @FILE, or - for standard input")
	set.StringVar(&flags.requestID, "request-id", "", "makes the start idempotent: the same `ID` with the same data attaches to the saga that is there")
	set.StringVar(&flags.sagaID, "saga-id", "", "the last part of the saga's name (default: the orchestrator chooses)")
	set.BoolVar(&flags.wait, "wait", false, "wait for the end and print the reply")
	return cmd
}

func (a *app) start(ctx context.Context, name string, flags startFlags) error {
	in, err := a.readInput("--data", flags.data)
	if err != nil {
		return err
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	name = strings.TrimPrefix(name, "/")
	method, err := a.definition(c, name)
	if err != nil {
		return err
	}
	message, err := in.parse(c.Schema, method.Input())
	if err != nil {
		return err
	}
	if err := setRequestID(message, flags.requestID); err != nil {
		return err
	}
	request, err := schema.Pack(message)
	if err != nil {
		return err
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	saga, err := c.Sagas.CreateSaga(call, &treatyv1.CreateSagaRequest{
		Definition: name,
		Request:    request,
		RequestId:  flags.requestID,
		SagaId:     flags.sagaID,
	})
	if err != nil {
		return a.explain(err, problem.Subject{Doing: "starting the saga", Start: true})
	}
	switch {
	case a.flags.json && !flags.wait:
		a.printJSON(c, saga)
	case a.flags.json:
		_, _ = fmt.Fprintln(a.Stderr, render.Clean(saga.GetName()))
	default:
		_, _ = io.WriteString(a.Stdout, render.Clean(saga.GetName())+"\n")
	}
	if !flags.wait {
		return nil
	}
	return a.waitFor(ctx, c, saga.GetName())
}

// setRequestID puts a request id into the field that the definition has for it.
func setRequestID(message *dynamicpb.Message, id string) error {
	field := schema.RequestIDField(message.Descriptor())
	if field == nil || id == "" {
		return nil
	}
	switch current := message.Get(field).String(); current {
	case id:
	case "":
		message.Set(field, protoreflect.ValueOfString(id))
	default:
		return problem.Usage(fmt.Sprintf("--request-id is %s, but the data's %s is %s", quote(id), field.JSONName(), quote(current)), "Give one of them, or both the same.")
	}
	return nil
}

// definition returns the method that starts a saga. When there is none of that name, the problem lists what is served.
func (a *app) definition(c *connection.Client, name string) (protoreflect.MethodDescriptor, error) {
	method, err := c.Schema.Method(name)
	if err == nil && schema.StartsSaga(method) {
		return method, nil
	}
	if err != nil && status.Code(err) != codes.NotFound {
		return nil, a.explainer().ExplainReflection(err)
	}
	message := "no saga is started by " + quote(name)
	if err == nil {
		message = name + " is a method, but doesn't start a saga"
	}
	p := problem.Usage(message)
	served, err := c.Schema.Definitions()
	if err != nil {
		return nil, a.explainer().ExplainReflection(err)
	}
	if len(served) == 0 {
		p.Hints = append(p.Hints, a.flags.connection.Address+" serves no saga definitions.")
		return nil, p
	}
	p.Hints = append(p.Hints, "These are served:")
	for _, definition := range served {
		p.Hints = append(p.Hints, "  "+definition.Name)
	}
	return nil, p
}
