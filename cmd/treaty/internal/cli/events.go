package cli

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/treatyhq/treaty/cmd/treaty/internal/connection"
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
		Short: "Follow the events that are published",
		Long: `Follow the events that are published: by services, and by the orchestrator, which publishes the replies that are events. It
begins with the oldest event that is kept, and goes on until it is interrupted, also when the orchestrator is restarted.

With --consumer it begins where that consumer is, and acknowledges each event once it is written: what one run has
written, the next one doesn't. A service's own consumer would miss what is acknowledged here; give another name.`,
		Example: `  treaty events --type acme.identity.v1.ApplicantVerified --subject applicants/1
  treaty events --after 4711 --json
  treaty events --consumer audit --json >> events.jsonl`,
		Args: exact(),
		RunE: a.run(func(ctx context.Context, _ *cobra.Command, _ []string) error {
			if flags.count < 0 {
				return problem.Usage("--count must be more than 0")
			}
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			ctx, cancel := a.long(ctx)
			defer cancel()
			return a.events(ctx, c, flags)
		}),
	}
	set := cmd.Flags()
	set.StringSliceVar(&flags.types, "type", nil, "only events of this message `TYPE`; may be given several times")
	set.StringVar(&flags.subject, "subject", "", "only events of this `SUBJECT`, the value of their correlation key")
	set.Uint64Var(&flags.after, "after", 0, "begin behind this `POSITION`; for a consumer only when it is new")
	set.StringVar(&flags.consumer, "consumer", "", "read as the durable consumer of this `NAME`: lower-case letters, digits and hyphens")
	set.IntVar(&flags.count, "count", 0, "end after this many events (default: never)")
	return cmd
}

// events writes events until there were enough of them, or ctx ends. A connection that is lost after it once stood is tried again.
func (a *app) events(ctx context.Context, c *connection.Client, flags eventsFlags) error {
	reader := &eventReader{app: a, client: c, flags: flags, view: a.view(c, render.SagaPayloads)}
	wait := firstPause
	for {
		written := reader.written
		err := reader.stream(ctx)
		if reader.written > written {
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

// eventReader writes the events of one stream after the other.
type eventReader struct {
	app     *app
	client  *connection.Client
	flags   eventsFlags
	view    *render.View
	opened  bool
	written int
}

// stream writes what one stream brings. It returns nil when there were enough.
func (r *eventReader) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &treatyv1.StreamEventsRequest{
		Consumer: r.flags.consumer, AfterPosition: r.flags.after, Types: r.flags.types, Subject: r.flags.subject,
	}
	stream, err := r.client.Events.StreamEvents(ctx, request)
	if err != nil {
		return err
	}
	// The header comes when the stream is open, before any event.
	if header, err := stream.Header(); err == nil && header != nil {
		r.opened = true
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := r.take(ctx, response.GetEvent()); err != nil {
			return err
		}
		if r.written == r.flags.count {
			return nil
		}
	}
}

// take writes an event, and acknowledges it for a consumer.
func (r *eventReader) take(ctx context.Context, event *treatyv1.PublishedEvent) error {
	if r.app.flags.json {
		r.app.printJSON(r.client, event)
	} else {
		r.app.print(r.view.Event(event))
	}
	if err := r.app.written.problem(); err != nil {
		return err // before it is acknowledged: nobody has it
	}
	r.written++
	if r.flags.consumer == "" {
		r.flags.after = event.GetPosition()
		return nil
	}
	ctx, cancel := r.app.unary(ctx)
	defer cancel()
	_, err := r.client.Events.AcknowledgeEvents(ctx, &treatyv1.AcknowledgeEventsRequest{Consumer: r.flags.consumer, Position: event.GetPosition()})
	return err
}
