// Command otherbuild is another build of Acme's orchestrator. Its code of VerifyApplicant has another order of steps,
// and the code of ReviewCustomer is missing. The upgrade gate must report both.
package main

import (
	"os"

	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

func main() {
	os.Exit(orchestrator.Main(func(r saga.Registrar) { identityv1saga.RegisterIdentitySagas(r, sagas{}) }))
}

type sagas struct{}

// VerifyApplicant inspects the passport before it registers the applicant.
func (sagas) VerifyApplicant(
	ctx saga.Context, in *identityv1.VerifyApplicantRequest) (*identityv1.ApplicantConfirmed, error,
) {
	inspected, err := identityv1saga.InspectPassport(ctx, &identityv1.InspectPassportRequest{})
	if err != nil {
		return nil, err
	}
	return &identityv1.ApplicantConfirmed{Inspected: inspected}, nil
}
