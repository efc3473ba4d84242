package participant_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/participanttest"
)

func TestPendingAnswer(t *testing.T) {
	var wait time.Duration
	service := &fake{get: func(context.Context, string) (*customerv1.Customer, error) {
		return &customerv1.Customer{Name: "ignored"}, fmt.Errorf("wrapped: %w", participant.Pending(wait))
	}}
	bothServers(t, service, func(t *testing.T, client customerv1.CustomerServiceClient, _ *buffer) {
		for _, test := range []struct {
			wait time.Duration
			want string
		}{
			{90 * time.Second, "90"},
			{1500 * time.Millisecond, "2"},
			{0, "1"},
			{-time.Hour, "1"},
			{24 * time.Hour, "86400"},
			{1<<63 - 1, "86400"},
		} {
			wait = test.wait
			for _, direction := range []participant.Direction{participant.Action, participant.Compensation} {
				command := participant.Command{
					Saga: "sagas/s", CommandID: "sagas/s/steps/1", Direction: direction, Attempt: 1,
				}
				var trailer metadata.MD
				reply, err := client.GetCustomer(
					command.Outgoing(t.Context()), &customerv1.GetCustomerRequest{}, grpc.Trailer(&trailer))
				got := trailer.Get(participant.PendingKey)
				if err != nil || proto.Size(reply) != 0 || len(got) != 1 || got[0] != test.want {
					t.Errorf("%v: got %v, %v, trailer %q, want %q", test.wait, reply, err, got, test.want)
				}
			}
		}
		var trailer metadata.MD
		_, err := client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{}, grpc.Trailer(&trailer))
		if status.Code(err) != codes.FailedPrecondition || len(trailer.Get(participant.PendingKey)) != 0 {
			t.Errorf("outside of a saga: %v, trailer %v", err, trailer)
		}
	})
}

// sagas is an orchestrator that remembers the calls it receives.
type sagas struct {
	treatyv1.UnimplementedSagaServiceServer

	fails     error
	completed *treatyv1.CompleteStepRequest
	heard     *treatyv1.HeartbeatStepRequest
}

func (s *sagas) CompleteStep(
	_ context.Context, r *treatyv1.CompleteStepRequest,
) (*treatyv1.CompleteStepResponse, error) {
	s.completed = r
	return &treatyv1.CompleteStepResponse{}, s.fails
}

func (s *sagas) HeartbeatStep(
	_ context.Context, r *treatyv1.HeartbeatStepRequest,
) (*treatyv1.HeartbeatStepResponse, error) {
	s.heard = r
	return &treatyv1.HeartbeatStepResponse{}, s.fails
}

func TestCompleter(t *testing.T) {
	orchestrator := &sagas{}
	completer := participant.NewCompleter(participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		treatyv1.RegisterSagaServiceServer(r, orchestrator)
	}))
	action := participant.Command{CommandID: "sagas/s/steps/1", Direction: participant.Action}
	compensation := participant.Command{CommandID: "sagas/s/steps/1", Direction: participant.Compensation}

	if err := completer.Complete(t.Context(), action, &customerv1.AddressChanged{Customer: "customers/1"}); err != nil {
		t.Fatal(err)
	}
	var reply customerv1.AddressChanged
	got := orchestrator.completed
	if err := got.GetReply().UnmarshalTo(&reply); err != nil || reply.GetCustomer() != "customers/1" ||
		got.GetName() != action.CommandID || got.GetDirection() != treatyv1.StepDirection_STEP_DIRECTION_ACTION {
		t.Errorf("completed with %v, %v", got, err)
	}

	closed := &customerv1.CustomerClosed{Customer: "customers/1"}
	refusal := fmt.Errorf("the clerk says: %w", participant.Refuse(codes.NotFound, "gone", closed))
	if err := completer.Refuse(t.Context(), compensation, refusal); err != nil {
		t.Fatal(err)
	}
	got = orchestrator.completed
	if f := got.GetRefusal(); codes.Code(f.GetCode()) != codes.NotFound || f.GetMessage() != "gone" ||
		len(f.GetDetails()) != 1 || got.GetDirection() != treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION {
		t.Errorf("refused with %v", got)
	}
	for _, bad := range []error{nil, errors.New("no status"), status.Error(codes.OK, "")} {
		if err := completer.Refuse(t.Context(), action, bad); err == nil {
			t.Errorf("refused with %v", bad)
		}
	}

	if err := completer.Heartbeat(t.Context(), action); err != nil || orchestrator.heard.GetName() != action.CommandID {
		t.Errorf("heartbeat %v, %v", orchestrator.heard, err)
	}
	for code, over := range map[codes.Code]bool{
		codes.FailedPrecondition: true, codes.NotFound: true, codes.Unavailable: false, codes.InvalidArgument: false,
	} {
		orchestrator.fails = status.Error(code, "no")
		for name, err := range map[string]error{
			"complete":  completer.Complete(t.Context(), action, &customerv1.AddressChanged{}),
			"refuse":    completer.Refuse(t.Context(), action, refusal),
			"heartbeat": completer.Heartbeat(t.Context(), action),
		} {
			if errors.Is(err, participant.ErrStepEnded) != over || status.Code(err) != code {
				t.Errorf("%s, %s: %v", name, code, err)
			}
		}
	}
}
