// Package foreign has a saga that sends a command without its contract.
package foreign

import (
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// Register registers the saga.
func Register(r saga.Registrar) {
	saga.Register(r, privacyv1.PrivacySagas_DeleteUserData_FullMethodName, code)
}

func code(ctx saga.Context, in *privacyv1.DeleteUserDataSagaRequest) (*privacyv1.UserForgotten, error) {
	return nil, saga.Call(ctx, "/shop.v1.PaymentService/Charge", in, in)
}
