package cli

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	"github.com/treatyhq/treaty/cmd/treaty/internal/schema"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// publishFlags are the flags of publish.
type publishFlags struct {
	data   string
	id     string
	source string
	time   string
}

func (a *app) publishCommand() *cobra.Command {
	var flags publishFlags
	cmd := &cobra.Command{
		Use:   "publish TYPE --data JSON",
		Short: "Publish an event",
		Long: `Publish an event, a message that a contract marks with (treaty.v1.event). It wakes the sagas that await it. Prints its position
among all events, and its id.`,
		Example: `  treaty publish acme.identity.v1.ApplicantVerified --data '{"applicant":"applicants/1"}' --id case-4711 --source register`,
		Args:    exact("TYPE"),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.publish(ctx, args[0], flags)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.data, "data", "{}", "the event: `JSON`, @FILE, or - for standard input")
	set.StringVar(&flags.id, "id", "", "makes publishing safe to repeat: an event of the same source and `ID` is published once (default: a new one)")
	set.StringVar(&flags.source, "source", "treaty-cli", "`WHO` publishes it")
	set.StringVar(&flags.time, "time", "", "when it happened, a `TIME` by RFC 3339 (default: now)")
	return cmd
}

func (a *app) publish(ctx context.Context, name string, flags publishFlags) error {
	in, err := a.readInput("--data", flags.data)
	if err != nil {
		return err
	}
	event := &treatyv1.PublishedEvent{Id: flags.id, Source: flags.source}
	if event.Id == "" {
		event.Id = rand.Text()
	}
	if flags.time != "" {
		at, err := time.Parse(time.RFC3339, flags.time)
		if err != nil {
			return problem.Usage("--time "+quote(flags.time)+" isn't a time by RFC 3339", "Write it as 2026-01-31T12:00:00Z.")
		}
		event.Time = timestamppb.New(at)
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	descriptor, err := c.Schema.Message(protoreflect.FullName(name))
	switch {
	case status.Code(err) == codes.NotFound:
		return problem.Usage("the orchestrator knows no message "+quote(name), "Write its full name, e.g. acme.identity.v1.ApplicantVerified.")
	case err != nil:
		return a.explainer().ExplainReflection(err)
	}
	message, err := in.parse(c.Schema, descriptor)
	if err != nil {
		return err
	}
	if event.Data, err = schema.Pack(message); err != nil {
		return err
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	response, err := c.Events.PublishEvents(call, &treatyv1.PublishEventsRequest{Events: []*treatyv1.PublishedEvent{event}})
	if err != nil {
		return a.explain(err, problem.Subject{Doing: "publishing the event " + event.GetId()})
	}
	if a.flags.json {
		a.printJSON(c, response)
		return nil
	}
	a.print(a.view(c, render.SagaPayloads).Published(response.GetPositions()[0], event.GetId()))
	return nil
}
