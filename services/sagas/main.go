// Command sagas is Acme's orchestrator. It runs the business processes that involve more than one of Acme's services,
// and is the only program that knows all of them. Each file contains one saga.
package main

import (
	"os"

	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	"github.com/treatyhq/treaty/gen/acme/privacy/v1/privacyv1saga"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

func main() { os.Exit(orchestrator.Main(register)) }

// register makes an orchestrator run all of Acme's sagas.
func register(r saga.Registrar) {
	customerv1saga.RegisterCustomerSagas(r, Sagas{})
	customerv1saga.RegisterReviewSagas(r, Sagas{})
	identityv1saga.RegisterIdentitySagas(r, Sagas{})
	cardv1saga.RegisterCardSagas(r, Sagas{})
	cardv1saga.RegisterFamilySagas(r, Sagas{})
	privacyv1saga.RegisterPrivacySagas(r, Sagas{})
}

// Sagas implements Acme's sagas. It has no state: everything that a saga knows is in its request and in the replies to
// its commands.
type Sagas struct{}

var (
	_ customerv1saga.CustomerSagas = Sagas{}
	_ customerv1saga.ReviewSagas   = Sagas{}
	_ identityv1saga.IdentitySagas = Sagas{}
	_ cardv1saga.CardSagas         = Sagas{}
	_ cardv1saga.FamilySagas       = Sagas{}
	_ privacyv1saga.PrivacySagas   = Sagas{}
)
