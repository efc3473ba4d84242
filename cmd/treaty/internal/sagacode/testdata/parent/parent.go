// Package parent has a saga that starts a saga of another package.
package parent

import (
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/gen/acme/privacy/v1/privacyv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// Register registers the saga.
func Register(r saga.Registrar) { privacyv1saga.RegisterPrivacySagas(r, sagas{}) }

type sagas struct{}

// DeleteUserData verifies who asks.
func (sagas) DeleteUserData(
	ctx saga.Context, _ *privacyv1.DeleteUserDataSagaRequest,
) (*privacyv1.UserForgotten, error) {
	_, err := identityv1saga.VerifyApplicant(ctx, nil)
	if _, ok := saga.Rejection[*identityv1.ApplicantTurnedDown](err); ok {
		return nil, nil
	}
	return nil, err
}
