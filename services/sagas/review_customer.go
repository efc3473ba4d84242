package main

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	"github.com/treatyhq/treaty/gen/acme/credit/v1/creditv1saga"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/gen/acme/notification/v1/notificationv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// reviewEvery is the default interval between reviews of a customer.
const reviewEvery = 365 * 24 * time.Hour

// ReviewCustomer reviews a customer once, and then starts the next round.
func (Sagas) ReviewCustomer(
	ctx saga.Context, in *customerv1.ReviewCustomerRequest,
) (*customerv1.CustomerReviewed, error) {
	ended := &customerv1.CustomerReviewed{
		Customer: in.GetCustomer(), RoundsDone: in.GetRoundsDone(), End: customerv1.ReviewEnd_REVIEW_END_ROUNDS_DONE,
	}
	if in.RoundsLeft != nil && in.GetRoundsLeft() <= 0 {
		return ended, nil
	}
	saga.Sleep(ctx, orElse(in.GetInterval(), reviewEvery))

	customer, err := customerv1saga.GetCustomer(ctx, &customerv1.GetCustomerRequest{Name: in.GetCustomer()})
	if status.Code(err) == codes.NotFound || customer.GetState() == customerv1.CustomerState_CUSTOMER_STATE_CLOSED {
		ended.End = customerv1.ReviewEnd_REVIEW_END_CUSTOMER_LEFT
		return ended, nil
	}
	if err != nil {
		return nil, err
	}
	var limit int64
	// In the first version, the message didn't mention the limit. Reviews that were sleeping then continue as they
	// began.
	if saga.Version(ctx, "tell the limit", 1) >= 1 {
		last, err := creditv1saga.GetLastCheck(ctx, &creditv1.GetLastCheckRequest{Customer: in.GetCustomer()})
		if err != nil {
			return nil, err
		}
		limit = last.GetCheck().GetApprovedLimitCents()
	}
	if _, err := notificationv1saga.SendReview(ctx, &notificationv1.SendReviewRequest{
		Customer:           in.GetCustomer(),
		DisplayName:        customer.GetDisplayName(),
		Email:              customer.GetEmail(),
		ApprovedLimitCents: limit,
	}); forgotten(err) {
		ended.End = customerv1.ReviewEnd_REVIEW_END_CUSTOMER_LEFT
		return ended, nil
	} else if err != nil {
		return nil, err
	}
	next := proto.CloneOf(in)
	next.RoundsDone++
	if next.RoundsLeft != nil {
		next.RoundsLeft = new(next.GetRoundsLeft() - 1)
	}
	return nil, saga.Restart(ctx, next)
}
