package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/render"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// eventsFlags are the flags of events.
type eventsFlags struct {
	types    []string
	subject  string
	after    uint64
	consumer string
	count    int
}

func (a *app) eventsCommand() *cobra.Command {
	var flags eventsFlags
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Follow the published events",
		Long: `Follow the events that services publish, and the replies that the orchestrator publishes as events.
Begin with the oldest event that is kept, and continue until interrupted. Following survives a restart
of the orchestrator.

With --consumer, begin at the consumer's position and acknowledge each event after printing it, so the
next run continues with the events after it. Don't use the name of a service's consumer: the service
would miss the acknowledged events.`,
		Example: `  treaty events --type acme.identity.v1.ApplicantVerified --subject applicants/1
  treaty events --after 4711 --json
  treaty events --consumer audit --json >> events.jsonl`,
		Args: exact(),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, _ []string) error {
			if flags.count < 0 {
				return problem.Usage("--count must be more than 0")
			}
			if err := a.connect(ctx); err != nil {
				return err
			}
			ctx, cancel := a.long(ctx)
			defer cancel()
			return a.events(ctx, flags)
		}),
	}
	set := cmd.Flags()
	set.StringSliceVar(&flags.types, "type", nil, "only events of this message `TYPE`; can be repeated")
	set.StringVar(&flags.subject, "subject", "", "only events with this `SUBJECT`, the value of the correlation key")
	set.Uint64Var(&flags.after, "after", 0, "begin after this `POSITION`; ignored for an existing consumer")
	set.StringVar(&flags.consumer, "consumer", "",
		"read as the durable consumer with this `NAME`: lower-case letters, digits and hyphens")
	set.IntVar(&flags.count, "count", 0, "end after this many events (default: never)")
	return cmd
}

// events prints events until it has printed enough of them or ctx ends. It retries a connection that is lost after it
// was established.
func (a *app) events(ctx context.Context, flags eventsFlags) error {
	reader := &eventReader{app: a, flags: flags, view: a.view(render.SagaPayloads)}
	wait := firstPause
	for {
		printed := reader.printed
		err := reader.stream(ctx)
		if reader.printed > printed {
			wait = firstPause
		}
		switch {
		case err == nil:
			return nil
		case reader.opened && errors.Is(ctx.Err(), context.DeadlineExceeded):
			return nil // --timeout is how long to follow
		case ctx.Err() != nil || !reader.opened || !isBroken(err) && !errors.Is(err, io.EOF):
			return a.explain(err, problem.Subject{Doing: "following events"})
		}
		if wait == firstPause {
			a.lostOnStderr()
		}
		if err := a.Pause(ctx, wait); err != nil {
			return a.explain(err, problem.Subject{})
		}
		wait = min(2*wait, longestPause)
	}
}

// eventReader prints the events of one stream after another.
type eventReader struct {
	app     *app
	flags   eventsFlags
	view    *render.View
	opened  bool
	printed int
}

// stream prints the events of one stream. It returns nil once it has printed enough of them.
func (r *eventReader) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &treatyv1.StreamEventsRequest{
		Consumer: r.flags.consumer, AfterPosition: r.flags.after, Types: r.flags.types, Subject: r.flags.subject,
	}
	stream, err := r.app.client.Events.StreamEvents(ctx, request)
	if err != nil {
		return err
	}
	// The server sends the header when the stream is open, before any event.
	if header, err := stream.Header(); err == nil && header != nil {
		r.opened = true
		r.waiting()
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := r.take(ctx, response.GetEvent()); err != nil {
			return err
		}
		if r.printed == r.flags.count {
			return nil
		}
	}
}

// waiting says how many events were printed. Who follows events into a file or a log isn't told again and again.
func (r *eventReader) waiting() {
	if r.app.StderrTerminal {
		r.app.progress.say("waiting for events, %d so far", r.printed)
	} else {
		r.app.progress.say("")
	}
}

// take prints an event, and acknowledges it for a consumer.
func (r *eventReader) take(ctx context.Context, event *treatyv1.PublishedEvent) error {
	if r.app.flags.json {
		r.app.printJSON(event)
	} else {
		r.app.print(r.view.Event(event))
	}
	if err := r.app.written.problem(); err != nil {
		return err // an event that wasn't written isn't acknowledged
	}
	r.printed++
	r.waiting()
	if r.flags.consumer == "" {
		r.flags.after = event.GetPosition()
		return nil
	}
	ctx, cancel := r.app.unary(ctx)
	defer cancel()
	request := &treatyv1.AcknowledgeEventsRequest{Consumer: r.flags.consumer, Position: event.GetPosition()}
	_, err := r.app.client.Events.AcknowledgeEvents(ctx, request)
	return err
}
