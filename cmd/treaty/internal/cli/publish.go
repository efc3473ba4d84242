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
		Long: `Publish an event, which wakes the sagas that wait for it. TYPE is a message that a contract marks with
(treaty.v1.event). The event's position among all events and its id are printed, and how many sagas waited
for it. Sagas that wait for it later find it, too.`,
		Example: `  treaty publish acme.identity.v1.ApplicantVerified --data '{"applicant":"applicants/1"}' --id r-17`,
		Args:    exact("TYPE"),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, args []string) error {
			return a.publish(ctx, args[0], flags)
		}),
	}
	set := cmd.Flags()
	set.StringVar(&flags.data, "data", "{}", "the event: `JSON`, @FILE, or - for standard input")
	set.StringVar(&flags.id, "id", "",
		"make publishing safe to repeat: an event of the same source and `ID` is published once (default: a new id)")
	set.StringVar(&flags.source, "source", "treaty-cli", "`WHO` publishes the event")
	set.StringVar(&flags.time, "time", "", "when the event happened, an RFC 3339 `TIME` (default: now)")
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
			return problem.Usage("--time "+quote(flags.time)+" isn't an RFC 3339 time",
				"Write it as 2026-01-31T12:00:00Z.")
		}
		event.Time = timestamppb.New(at)
	}
	if err := a.connect(ctx); err != nil {
		return err
	}
	descriptor, err := a.client.Schema.Message(protoreflect.FullName(name))
	switch {
	case status.Code(err) == codes.NotFound:
		return problem.Usage("the orchestrator knows no message "+quote(name),
			"Write the full name of an event, e.g. acme.identity.v1.ApplicantVerified.")
	case err != nil:
		return a.explainer().ExplainReflection(err)
	}
	if event.Data, err = a.pack(in, descriptor); err != nil {
		return err
	}
	call, cancel := a.unary(ctx)
	defer cancel()
	request := &treatyv1.PublishEventsRequest{Events: []*treatyv1.PublishedEvent{event}}
	response, err := a.client.Events.PublishEvents(call, request)
	if err != nil {
		return a.explain(err, problem.Subject{Doing: "publishing the event " + event.GetId()})
	}
	if a.flags.json {
		a.printJSON(response)
		return nil
	}
	a.print(a.view(render.SagaPayloads).Published(response, event.GetId()))
	return nil
}
