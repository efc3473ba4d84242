// Command sagas is Acme's orchestrator: it runs the processes in which more than one of Acme's services takes part. It
// is the one place that knows all of them; each file holds one saga.
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

// Sagas is the code of Acme's sagas. It holds nothing: what a saga knows is in its request and in the replies to its
// commands.
type Sagas struct{}

var (
	_ customerv1saga.CustomerSagas = Sagas{}
	_ customerv1saga.ReviewSagas   = Sagas{}
	_ identityv1saga.IdentitySagas = Sagas{}
	_ cardv1saga.CardSagas         = Sagas{}
	_ cardv1saga.FamilySagas       = Sagas{}
	_ privacyv1saga.PrivacySagas   = Sagas{}
)
