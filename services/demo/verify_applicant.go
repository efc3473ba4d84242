package main

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// mislaid is a passport about which the register makes no decision, because it has mislaid the papers.
const mislaid = "ZZ181512"

// verifyByHand shows a saga that awaits an event, and publishes the event by hand.
func (d *demo) verifyByHand(ctx context.Context) error {
	d.heading("VerifyApplicant: the register has mislaid Ada's papers, so somebody publishes its decision by hand")
	request := &identityv1.VerifyApplicantRequest{
		RequestId: "verify-ada", Customer: d.ada, DisplayName: "Ada Lovelace", PassportNumber: mislaid,
	}
	name, err := d.begin(ctx, verifyApplicant, request)
	if err != nil {
		return err
	}
	wait, err := d.untilAwaits(ctx, name)
	if err != nil {
		return err
	}
	applicant := wait.GetEvents()[0].GetSubject()
	d.out.line(plain, "    The saga "+waiting(wait.GetEvents()))
	d.out.line(plain, fmt.Sprintf("    of %s, for at most %d hours. Meanwhile it exists only on disk.",
		applicant, int(wait.GetDueTime().AsTime().Sub(wait.GetScheduleTime().AsTime()).Hours())))
	known, err := identityv1.NewIdentityServiceClient(d.company.Conn(company.Identity)).GetApplicant(ctx,
		&identityv1.GetApplicantRequest{Name: applicant})
	if err != nil {
		return fmt.Errorf("reading %s: %w", applicant, err)
	}
	body := verdict(applicant, known.GetRegisterReference())
	first, err := d.publish(ctx, body)
	if err != nil {
		return err
	}
	again, err := d.publish(ctx, body)
	if err != nil {
		return err
	}
	address := d.company.Process(company.Orchestrator).Address
	d.out.line(dim, "    The third party's event, as grpcurl or any other gRPC client can publish it:")
	d.out.line(plain, "      grpcurl -plaintext -d '"+body+"' \\\n        "+address+
		" treaty.v1.EventService/PublishEvents")
	if _, err := d.follow(ctx, d.call(ctx, verifyApplicant, request, &identityv1.ApplicantConfirmed{}),
		treatyv1.SagaState_SAGA_STATE_SUCCEEDED); err != nil {
		return err
	}
	d.check(first == again, fmt.Sprintf("it was published twice with the same id, and is stored once, at position %d",
		first))
	streamed, err := d.consumed(ctx, applicant)
	if err != nil {
		return err
	}
	d.check(streamed[0] == first && streamed[1] == first,
		"a durable consumer of the applicant's events received it, and again after a break, "+
			"because it hadn't acknowledged it")
	return nil
}

// untilAwaits waits until a saga awaits an event.
func (d *demo) untilAwaits(ctx context.Context, name string) (found *treatyv1.Wait, err error) {
	err = d.watch(ctx, name, func(saga *treatyv1.Saga) bool {
		for _, w := range saga.GetWaits() {
			if len(w.GetEvents()) > 0 {
				found = w
			}
		}
		return found != nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("%s ended without awaiting an event", name)
	}
	return found, err
}

// verdict returns the request, in JSON, that publishes an event: the register vouches for an applicant. Its lines are
// short enough to read.
func verdict(applicant, reference string) string {
	return fmt.Sprintf(`{"events": [{"id": %q, "source": "register", "data": {
        "@type": "type.googleapis.com/acme.identity.v1.ApplicantVerified",
        "applicant": %q, "register_reference": %q}}]}`, reference, applicant, reference)
}

// publish publishes the events in a JSON request, and returns the position of the first one.
func (d *demo) publish(ctx context.Context, body string) (position uint64, err error) {
	request := &treatyv1.PublishEventsRequest{}
	if err := protojson.Unmarshal([]byte(body), request); err != nil {
		return 0, fmt.Errorf("reading an event: %w", err)
	}
	published, err := treatyv1.NewEventServiceClient(d.company.Conn(company.Orchestrator)).PublishEvents(ctx, request)
	if err != nil {
		return 0, fmt.Errorf("publishing an event: %w", err)
	}
	return published.GetPositions()[0], nil
}

// consumed reads the first event about a subject as a durable consumer, reads it again after a break, and then
// acknowledges it. It returns the positions of both.
func (d *demo) consumed(ctx context.Context, subject string) (positions [2]uint64, err error) {
	const consumer = "demo"
	for i := range positions {
		event, err := d.streamed(ctx, &treatyv1.StreamEventsRequest{Consumer: consumer, Subject: subject})
		if err != nil {
			return positions, err
		}
		positions[i] = event.GetPosition()
	}
	if _, err := treatyv1.NewEventServiceClient(d.company.Conn(company.Orchestrator)).AcknowledgeEvents(ctx,
		&treatyv1.AcknowledgeEventsRequest{Consumer: consumer, Position: positions[1]}); err != nil {
		return positions, fmt.Errorf("acknowledging an event: %w", err)
	}
	return positions, nil
}

// streamed returns the first event of a stream.
func (d *demo) streamed(ctx context.Context, request *treatyv1.StreamEventsRequest) (*treatyv1.PublishedEvent, error) {
	ctx, cancel := context.WithTimeout(ctx, sagaTime)
	defer cancel()
	stream, err := treatyv1.NewEventServiceClient(d.company.Conn(company.Orchestrator)).StreamEvents(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("streaming events: %w", err)
	}
	response, err := stream.Recv()
	if err != nil {
		return nil, fmt.Errorf("streaming events: %w", err)
	}
	return response.GetEvent(), nil
}
