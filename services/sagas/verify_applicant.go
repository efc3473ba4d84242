package main

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// registerAnswersWithin is how long the identity register may take by default.
const registerAnswersWithin = 72 * time.Hour

// VerifyApplicant verifies the identity of an applicant. It can run on its own or as a step of another saga, which
// compensates it as a whole.
func (Sagas) VerifyApplicant(
	ctx saga.Context, in *identityv1.VerifyApplicantRequest,
) (*identityv1.ApplicantConfirmed, error) {
	registered, err := identityv1saga.RegisterApplicant(ctx, &identityv1.RegisterApplicantRequest{
		Customer:       in.GetCustomer(),
		DisplayName:    in.GetDisplayName(),
		PassportNumber: in.GetPassportNumber(),
	})
	if err != nil {
		return nil, err
	}
	applicant := registered.GetApplicant()
	// This takes hours. Until then, the register's events are kept.
	inspected, err := identityv1saga.InspectPassport(ctx, &identityv1.InspectPassportRequest{Applicant: applicant})
	if err != nil {
		return nil, err
	}
	patience := orElse(in.GetConfirmWithin(), registerAnswersWithin)
	verified, turnedDown, silence := identityv1saga.NextApplicantVerified(applicant),
		identityv1saga.NextApplicantTurnedDown(applicant), saga.After(patience)
	switch saga.First(ctx, verified, turnedDown, silence) {
	case verified:
		return &identityv1.ApplicantConfirmed{Applicant: applicant, Verified: verified.Message(), Inspected: inspected},
			nil
	case turnedDown:
		return nil, refuse("the identity register turns the applicant down", turnedDown.Message())
	default:
		return nil, refuse("the identity register didn't decide in time",
			&identityv1.RegisterSilent{Applicant: applicant, Waited: durationpb.New(patience)})
	}
}
