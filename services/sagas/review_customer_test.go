package main

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/gen/acme/notification/v1/notificationv1saga"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

func TestReviewCustomer(t *testing.T) {
	const done, left = customerv1.ReviewEnd_REVIEW_END_ROUNDS_DONE, customerv1.ReviewEnd_REVIEW_END_CUSTOMER_LEFT
	round := []string{"action GetCustomer", "action GetLastCheck", "action SendReview"}
	closed := func(c *customerv1.Customer) *customerv1.Customer {
		c.State = customerv1.CustomerState_CUSTOMER_STATE_CLOSED
		return c
	}
	reviews := 0
	closedAfterTwo := func(c *customerv1.Customer) *customerv1.Customer {
		if reviews++; reviews <= 2 {
			return c
		}
		return closed(c)
	}
	for _, test := range []struct {
		name   string
		acme   *company
		rounds *int32
		want   *customerv1.CustomerReviewed
		seen   []string
	}{
		{"three times", &company{lastCheck: &creditv1.Check{ApprovedLimitCents: 8_000_00}}, proto.Int32(3),
			&customerv1.CustomerReviewed{RoundsDone: 3, End: done}, slices.Repeat(round, 3)},
		{"never checked", &company{}, proto.Int32(1), &customerv1.CustomerReviewed{RoundsDone: 1, End: done}, round},
		{"not at all", &company{}, proto.Int32(0), &customerv1.CustomerReviewed{End: done}, nil},
		{"until they leave", &company{customer: closedAfterTwo}, nil, &customerv1.CustomerReviewed{RoundsDone: 2,
			End: left}, append(slices.Repeat(round, 2), round[0])},
		{
			"a customer who was deleted",
			&company{refusals: map[string]error{"GetCustomer": status.Error(codes.NotFound, "nobody")}}, nil,
			&customerv1.CustomerReviewed{End: left}, round[:1],
		},
		{
			"a customer who is forgotten during the saga",
			&company{refusals: map[string]error{
				"SendReview": status.Error(codes.FailedPrecondition, "the customer was forgotten"),
			}}, nil,
			&customerv1.CustomerReviewed{End: left}, round,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			reviewed, err := customerv1.NewReviewSagasClient(open(t, test.acme)).ReviewCustomer(t.Context(),
				&customerv1.ReviewCustomerRequest{
					RequestId: "review", Customer: "customers/ada", Interval: durationpb.New(time.Millisecond),
					RoundsLeft: test.rounds,
				}, grpc.WaitForReady(true))
			if err != nil {
				t.Fatal(err)
			}
			test.want.Customer = "customers/ada"
			if diff := cmp.Diff(test.want, reviewed, protocmp.Transform()); diff != "" {
				t.Errorf("the reply (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.seen, test.acme.seen()); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}

// earlier is the code of reviews from before they mentioned the limit.
type earlier struct{}

func (earlier) ReviewCustomer(
	ctx saga.Context, in *customerv1.ReviewCustomerRequest,
) (*customerv1.CustomerReviewed, error) {
	saga.Sleep(ctx, in.GetInterval().AsDuration())
	customer, err := customerv1saga.GetCustomer(ctx, &customerv1.GetCustomerRequest{Name: in.GetCustomer()})
	if err != nil {
		return nil, err
	}
	_, err = notificationv1saga.SendReview(ctx, &notificationv1.SendReviewRequest{
		Customer: in.GetCustomer(), DisplayName: customer.GetDisplayName(), Email: customer.GetEmail(),
	})
	return nil, err
}

// TestReviewFromBeforeTheLimitWasTold starts a review with the earlier code and continues with the current one. The
// round in flight continues as it began, and the next one asks for the limit.
func TestReviewFromBeforeTheLimitWasTold(t *testing.T) {
	acme := &company{
		turnedAway: make(chan string, 1),
		refusals:   map[string]error{"SendReview": status.Error(codes.Unavailable, "not now")},
	}
	store, participants := filepath.Join(t.TempDir(), "treaty.db"), acme.open(t)
	conn, stop := orchestrate(t, acme, store, participants,
		func(r saga.Registrar) { customerv1saga.RegisterReviewSagas(r, earlier{}) })
	started, err := treatyv1.NewSagaServiceClient(conn).CreateSaga(t.Context(), &treatyv1.CreateSagaRequest{
		Definition: "acme.customer.v1.ReviewSagas/ReviewCustomer",
		Request: packed(t, &customerv1.ReviewCustomerRequest{
			RequestId: "review", Customer: "customers/ada", Interval: durationpb.New(time.Millisecond),
			RoundsLeft: proto.Int32(2),
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	<-acme.turnedAway
	stop()
	acme.allow("SendReview")
	conn, _ = orchestrate(t, acme, store, participants, register)
	ended, err := treatyv1.NewSagaServiceClient(conn).WaitSaga(t.Context(),
		&treatyv1.WaitSagaRequest{Name: started.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	want := packed(t, &customerv1.CustomerReviewed{Customer: "customers/ada", RoundsDone: 2,
		End: customerv1.ReviewEnd_REVIEW_END_ROUNDS_DONE})
	if diff := cmp.Diff(want, ended.GetReply(), protocmp.Transform()); diff != "" {
		t.Errorf("the reply (-want +got):\n%s", diff)
	}
	seen := slices.Compact(acme.seen()) // The message was sent again until it was accepted.
	if diff := cmp.Diff([]string{"action GetCustomer", "action SendReview", "action GetCustomer", "action GetLastCheck",
		"action SendReview"}, seen); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}
