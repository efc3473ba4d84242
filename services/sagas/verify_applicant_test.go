package main

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

func applying() *identityv1.VerifyApplicantRequest {
	return &identityv1.VerifyApplicantRequest{
		RequestId: "verify", Customer: "customers/ada", DisplayName: "Ada", PassportNumber: "AB12345",
	}
}

// turnedDown is what the register publishes about a person whom it doesn't vouch for.
func turnedDown(applicant string) proto.Message {
	return &identityv1.ApplicantTurnedDown{Applicant: applicant, Reason: "not the same person"}
}

func TestVerifyApplicant(t *testing.T) {
	asked := []string{"action RegisterApplicant", "action InspectPassport"}
	undone := append(asked[:2:2], "compensation DiscardInspection", "compensation WithdrawApplicant")
	for _, test := range []struct {
		name    string
		acme    *company
		within  time.Duration
		carries func(error) bool // nil if the applicant is verified
		want    []string
	}{
		{name: "vouched for", acme: &company{decide: verified}, want: asked},
		{name: "turned down", acme: &company{decide: turnedDown}, carries: carries[*identityv1.ApplicantTurnedDown],
			want: undone},
		{name: "without an answer", acme: &company{}, within: time.Millisecond,
			carries: carries[*identityv1.RegisterSilent], want: undone},
		{
			name: "with a forged passport",
			acme: &company{decide: verified, refusals: map[string]error{"InspectPassport": refused(t,
				&identityv1.PassportNotGenuine{})}},
			want:    append(asked[:2:2], "compensation WithdrawApplicant"),
			carries: carries[*identityv1.PassportNotGenuine],
		},
		{
			name: "rejected by the register",
			acme: &company{refusals: map[string]error{"RegisterApplicant": refused(t,
				&identityv1.ApplicantRejected{})}},
			want: asked[:1], carries: carries[*identityv1.ApplicantRejected],
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := applying()
			if test.within > 0 {
				request.ConfirmWithin = durationpb.New(test.within)
			}
			confirmed, err := identityv1.NewIdentitySagasClient(open(t, test.acme)).VerifyApplicant(t.Context(),
				request, grpc.WaitForReady(true))
			want := &identityv1.ApplicantConfirmed{
				Applicant: "applicants/ada",
				Verified:  &identityv1.ApplicantVerified{Applicant: "applicants/ada", RegisterReference: "REG-1"},
				Inspected: inspected("applicants/ada"),
			}
			switch {
			case test.carries != nil && (status.Code(err) != codes.FailedPrecondition || !test.carries(err)):
				t.Errorf("got %v with the details %v, want the refusal with its rejection", err,
					status.Convert(err).Details())
			case test.carries == nil && err != nil:
				t.Errorf("refused: %v", err)
			case test.carries == nil && !proto.Equal(confirmed, want):
				t.Errorf("confirmed (-want +got):\n%s", cmp.Diff(want, confirmed, protocmp.Transform()))
			}
			if diff := cmp.Diff(test.want, test.acme.seen()); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDecisionThatTakesLong publishes the register's decision when the saga waits for nothing else, after a restart.
func TestDecisionThatTakesLong(t *testing.T) {
	acme := &company{}
	store, participants := filepath.Join(t.TempDir(), "treaty.db"), acme.open(t)
	conn, stop := orchestrate(t, acme, store, participants, register)
	started, err := treatyv1.NewSagaServiceClient(conn).CreateSaga(t.Context(), &treatyv1.CreateSagaRequest{
		Definition: "acme.identity.v1.IdentitySagas/VerifyApplicant", Request: packed(t, applying()),
	})
	if err != nil {
		t.Fatal(err)
	}
	waits := func(s *treatyv1.Saga) bool { return len(s.GetWaits()) > 0 }
	await(t, treatyv1.NewSagaServiceClient(conn), started.GetName(), waits)
	stop()
	conn, _ = orchestrate(t, acme, store, participants, register)
	sagas := treatyv1.NewSagaServiceClient(conn)
	await(t, sagas, started.GetName(), waits)
	if err := acme.publish(t.Context(), "somebody-else", verified("applicants/eve")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := acme.publish(t.Context(), "decision", verified("applicants/ada")); err != nil {
			t.Fatal(err)
		}
	}
	ended, err := sagas.WaitSaga(t.Context(), &treatyv1.WaitSagaRequest{Name: started.GetName()})
	if err != nil || ended.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED {
		t.Errorf("the end: %v, %v; want SUCCEEDED", ended.GetState(), err)
	}
	if diff := cmp.Diff([]string{"action RegisterApplicant", "action InspectPassport"}, acme.seen()); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}

// TestInspectionThatTakesLong accepts the inspection, sends heartbeats, and completes it with a call: with a reply or a
// refusal.
func TestInspectionThatTakesLong(t *testing.T) {
	accepted := make(chan string)
	acme := &company{decide: verified, inspect: func(ctx context.Context, _ string) error {
		if err := grpc.SetTrailer(ctx, metadata.Pairs("treaty-pending", "3600")); err != nil {
			return err
		}
		accepted <- metadata.ValueFromIncomingContext(ctx, "treaty-command-id")[0]
		return nil
	}}
	conn := open(t, acme)
	steps := treatyv1.NewSagaServiceClient(conn)
	for _, test := range []struct {
		name     string
		complete func(*treatyv1.CompleteStepRequest)
		want     codes.Code
	}{
		{"genuine", func(r *treatyv1.CompleteStepRequest) {
			r.How = &treatyv1.CompleteStepRequest_Reply{Reply: packed(t, inspected("applicants/ada"))}
		}, codes.OK},
		{"forged", func(r *treatyv1.CompleteStepRequest) {
			r.How = &treatyv1.CompleteStepRequest_Refusal{Refusal: &treatyv1.Failure{
				Code: int32(codes.FailedPrecondition), Details: []*anypb.Any{packed(t,
					&identityv1.PassportNotGenuine{})},
			}}
		}, codes.FailedPrecondition},
	} {
		t.Run(test.name, func(t *testing.T) {
			ended := make(chan error, 1)
			go func() {
				request := applying()
				request.RequestId = test.name
				_, err := identityv1.NewIdentitySagasClient(conn).VerifyApplicant(t.Context(), request,
					grpc.WaitForReady(true))
				ended <- err
			}()
			step := <-accepted
			if _, err := steps.HeartbeatStep(t.Context(), &treatyv1.HeartbeatStepRequest{Name: step,
				Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION}); err != nil {
				t.Errorf("the heartbeat: %v", err)
			}
			completion := &treatyv1.CompleteStepRequest{
				Name: step, Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION,
			}
			test.complete(completion)
			if _, err := steps.CompleteStep(t.Context(), completion); err != nil {
				t.Fatalf("the completion: %v", err)
			}
			if err := <-ended; status.Code(err) != test.want || test.want != codes.OK &&
				!carries[*identityv1.PassportNotGenuine](err) {
				t.Errorf("the saga ended with %v, want %v", err, test.want)
			}
			heartbeat := &treatyv1.HeartbeatStepRequest{
				Name: step, Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION,
			}
			if _, err := steps.HeartbeatStep(t.Context(), heartbeat); status.Code(err) != codes.FailedPrecondition {
				t.Errorf("a heartbeat for a step that has ended: %v, want FAILED_PRECONDITION", err)
			}
		})
	}
}

func packed(t *testing.T, message proto.Message) *anypb.Any {
	t.Helper()
	data, err := anypb.New(message)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
