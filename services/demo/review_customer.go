package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

const (
	reviewCustomer = "acme.customer.v1.ReviewSagas/ReviewCustomer"

	// rounds is how often Katherine is reviewed.
	rounds = 3

	// year is the time from one review to the next.
	year = 400 * time.Millisecond
)

// reviewCustomer shows a saga that runs in rounds. It shows the first round while the notification service is down,
// because the journal drops a round when the next one starts.
func (d *demo) reviewCustomer(ctx context.Context) error {
	d.heading(fmt.Sprintf("ReviewCustomer: Katherine is reviewed %d times, once a year (here %s); "+
		"the notification service is down at first", rounds, short(year)))
	f, err := d.fileOf(ctx, katherine)
	if err != nil {
		return err
	}
	notification := d.company.Process(company.Notification)
	if err := notification.Stop(); err != nil {
		return err
	}
	request := &customerv1.ReviewCustomerRequest{
		RequestId: "review-katherine", Customer: f.customer.GetName(), Interval: durationpb.New(year),
		RoundsLeft: proto.Int32(rounds),
	}
	name, err := d.begin(ctx, reviewCustomer, request)
	if err != nil {
		return err
	}
	var stuck *treatyv1.Saga
	if err := d.watch(ctx, name, func(saga *treatyv1.Saga) bool {
		stuck = saga
		return len(saga.GetSteps()) == len([]string{"GetCustomer", "GetLastCheck", "SendReview"})
	}); err != nil {
		return err
	}
	if err := d.show(ctx, stuck); err != nil {
		return err
	}
	if err := notification.Start(); err != nil {
		return err
	}
	if err := d.company.ReadyProcess(ctx, company.Notification); err != nil {
		return err
	}
	d.out.line(dim, "    The service is back, and the saga continues:")
	if err := d.watchRounds(ctx, name); err != nil {
		return err
	}
	return d.reviewed(ctx, name, request)
}

// watchRounds shows when each later round starts.
func (d *demo) watchRounds(ctx context.Context, name string) error {
	round := int32(1)
	return d.watch(ctx, name, func(saga *treatyv1.Saga) bool {
		if saga.GetRound() > round && saga.GetEndTime() == nil {
			d.out.line(plain, fmt.Sprintf("      %-9s↻ round %d starts with an empty journal",
				short(time.Since(saga.GetCreateTime().AsTime())), saga.GetRound()))
		}
		round = saga.GetRound()
		return false
	})
}

// reviewed shows the outcome of the reviews.
func (d *demo) reviewed(ctx context.Context, name string, request *customerv1.ReviewCustomerRequest) error {
	saga, err := d.waited(ctx, reviewCustomer, name, request.GetRequestId())
	if err != nil {
		return err
	}
	ended := &customerv1.CustomerReviewed{}
	if saga.GetReply() != nil {
		if err := saga.GetReply().UnmarshalTo(ended); err != nil {
			return fmt.Errorf("reading the reply of %s: %w", name, err)
		}
	}
	d.check(saga.GetState() == treatyv1.SagaState_SAGA_STATE_SUCCEEDED && ended.GetRoundsDone() == rounds,
		fmt.Sprintf("the saga is %s after all %d rounds", stateName(saga.GetState()),
			ended.GetRoundsDone()))
	labelled, err := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator)).ListSagas(ctx,
		&treatyv1.ListSagasRequest{
			PageSize: 10, Filter: `labels.customer = "` + request.GetCustomer() + `"`,
		})
	if err != nil {
		return fmt.Errorf("looking for sagas by their label: %w", err)
	}
	d.check(len(labelled.GetSagas()) == 1 && labelled.GetSagas()[0].GetName() == name,
		"a search by the label customer finds it")
	holdings, err := d.company.Holdings(ctx)
	if err != nil {
		return err
	}
	letters, last := 0, ""
	for _, m := range holdings.Messages {
		if m.GetCustomer() == request.GetCustomer() && m.GetSubject() == "Your review at Acme" {
			letters, last = letters+1, m.GetText()
		}
	}
	d.holds(held{company.Notification, fmt.Sprintf("%d letters, each: %s", letters, last), letters == rounds})
	return nil
}
