package sagatest_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/saga"
	"github.com/treatyhq/treaty/orchestrator/saga/sagatest"
)

const (
	verifyApplicant   = identityv1.IdentitySagas_VerifyApplicant_FullMethodName
	inspectPassport   = identityv1.IdentityService_InspectPassport_FullMethodName
	discardInspection = identityv1.IdentityService_DiscardInspection_FullMethodName
)

// verifications has an applicant inspected, which a clerk does, and waits for the register's decision.
type verifications struct{}

func (verifications) VerifyApplicant(
	ctx saga.Context, in *identityv1.VerifyApplicantRequest,
) (*identityv1.ApplicantConfirmed, error) {
	inspected, err := identityv1saga.InspectPassport(ctx, &identityv1.InspectPassportRequest{Applicant: "applicants/a"})
	if err != nil {
		return nil, err
	}
	saga.SetProgress(ctx, inspected)
	verified, silence := identityv1saga.NextApplicantVerified("applicants/a"), saga.After(72*time.Hour)
	if saga.First(ctx, verified, silence) == silence {
		return nil, status.Error(codes.FailedPrecondition, "the register didn't decide in time")
	}
	saga.Sleep(ctx, in.GetConfirmWithin().AsDuration())
	return &identityv1.ApplicantConfirmed{Inspected: inspected}, nil
}

func registerVerifications(r saga.Registrar) {
	identityv1saga.RegisterIdentitySagas(r, verifications{})
}

func verifying() *identityv1.VerifyApplicantRequest {
	return &identityv1.VerifyApplicantRequest{
		Customer: "customers/ada", ConfirmWithin: durationpb.New(90 * time.Minute),
	}
}

func anInspection() *identityv1.PassportInspected {
	return &identityv1.PassportInspected{Applicant: "applicants/a", Inspection: "inspections/1"}
}

// TestPendingCommand completes a command that its participant has accepted, and says at each point what the saga waits
// for.
func TestPendingCommand(t *testing.T) {
	sagatest.Run(t, registerVerifications, func(w *sagatest.World) {
		w.Script(inspectPassport, sagatest.Accept(time.Hour))
		s := w.Start(verifyApplicant, verifying())
		s.WantLabels(map[string]string{"customer": "customers/ada"})
		s.WantWaits("InspectPassport")
		s.WantProgress(nil)
		w.Advance(48 * time.Hour)
		s.WantWaits("InspectPassport")
		w.Complete(inspectPassport, sagatest.Reply(anInspection()))
		s.WantWaits("ApplicantVerified of applicants/a or 72h")
		s.WantProgress(anInspection())
		w.Publish(&identityv1.ApplicantVerified{Applicant: "applicants/a"})
		s.WantWaits("1h30m")
		s.WantReply(&identityv1.ApplicantConfirmed{Inspected: anInspection()})
		s.WantWaits()
		s.WantCommands("action InspectPassport")
	})
}

// TestPendingCommandEnds ends commands that were accepted in other ways than by a reply.
func TestPendingCommandEnds(t *testing.T) {
	for _, test := range []struct {
		name     string
		complete sagatest.Answer
		want     func(*sagatest.World, *sagatest.Saga)
	}{
		{
			name: "rejected", complete: sagatest.Reject(&identityv1.PassportNotGenuine{}),
			want: func(_ *sagatest.World, s *sagatest.Saga) { s.WantRejection(&identityv1.PassportNotGenuine{}) },
		},
		{
			name: "refused", complete: sagatest.Fail(status.Error(codes.NotFound, "no such applicant")),
			want: func(_ *sagatest.World, s *sagatest.Saga) {
				if _, err := s.Result(); status.Code(err) != codes.NotFound {
					t.Errorf("the saga ended with %v", err)
				}
			},
		},
		{
			name: "completed with a plausible reply", complete: sagatest.Answer{},
			want: func(_ *sagatest.World, s *sagatest.Saga) { s.WantWaits("ApplicantVerified of applicants/a or 72h") },
		},
		{
			name: "completed, and nobody heard it until the command was sent again", complete: sagatest.LoseReply(),
			want: func(w *sagatest.World, s *sagatest.Saga) {
				s.WantWaits("InspectPassport")
				w.Advance(2 * time.Hour)
				s.WantWaits("ApplicantVerified of applicants/a or 72h")
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			sagatest.Run(t, registerVerifications, func(w *sagatest.World) {
				w.Script(inspectPassport, sagatest.Accept(time.Hour))
				s := w.Start(verifyApplicant, verifying())
				w.Settle()
				w.Crash() // the participant keeps the command
				w.Settle()
				w.Complete(inspectPassport, test.complete)
				test.want(w, s)
			})
		})
	}
}

// TestPendingCompensation completes a compensation that its participant has accepted.
func TestPendingCompensation(t *testing.T) {
	sagatest.Run(t, registerVerifications, func(w *sagatest.World) {
		w.Script(discardInspection, sagatest.Accept(time.Hour))
		s := w.Start(verifyApplicant, verifying())
		w.Settle()
		if err := s.Cancel(); err != nil {
			t.Fatal(err)
		}
		s.WantWaits("DiscardInspection")
		w.Advance(3 * time.Hour)
		if got := s.State(); got != treatyv1.SagaState_SAGA_STATE_COMPENSATING {
			t.Errorf("the saga is %s before its compensation was completed", got)
		}
		w.Complete(discardInspection, sagatest.Answer{})
		if _, err := s.Result(); status.Code(err) != codes.Canceled {
			t.Errorf("the saga ended with %v", err)
		}
		s.WantCommands("action InspectPassport", "compensation DiscardInspection")
	})
}
