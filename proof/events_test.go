package proof

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/types/known/anypb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// eventsOf reads all events in the orchestrator's store. A stream of events never ends, so it publishes an event that
// no saga waits for, and reads up to that event.
func eventsOf(ctx context.Context, acme *company.Company) ([]*treatyv1.PublishedEvent, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := treatyv1.NewEventServiceClient(acme.Conn(company.Orchestrator))
	data, err := anypb.New(&identityv1.ApplicantVerified{Applicant: "applicants/nobody"})
	if err != nil {
		return nil, fmt.Errorf("packing an event: %w", err)
	}
	published, err := client.PublishEvents(ctx, &treatyv1.PublishEventsRequest{
		Events: []*treatyv1.PublishedEvent{{Id: "the last one", Source: "proof", Data: data}},
	})
	if err != nil {
		return nil, fmt.Errorf("publishing an event: %w", err)
	}
	stream, err := client.StreamEvents(ctx, &treatyv1.StreamEventsRequest{})
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", err)
	}
	events := []*treatyv1.PublishedEvent{}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("reading events: the stream ended after %d events", len(events))
		}
		if err != nil {
			return nil, fmt.Errorf("reading events: %w", err)
		}
		if response.GetEvent().GetPosition() == published.GetPositions()[0] {
			return events, nil
		}
		events = append(events, response.GetEvent())
	}
}
