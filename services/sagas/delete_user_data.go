package main

import (
	"strings"

	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/gen/acme/privacy/v1/privacyv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// DeleteUserData deletes the data that all services store about a customer. It names no services: the command goes to
// every service that implements the contract when the saga runs.
func (Sagas) DeleteUserData(
	ctx saga.Context, in *privacyv1.DeleteUserDataSagaRequest,
) (*privacyv1.UserForgotten, error) {
	if id, ok := strings.CutPrefix(in.GetCustomer(), "customers/"); !ok || id == "" {
		return nil, invalid("customer: want customers/{customer}")
	}
	answers, err := privacyv1saga.DeleteUserData(ctx, &privacyv1.DeleteUserDataRequest{Customer: in.GetCustomer()})
	if err != nil {
		return nil, err
	}
	forgotten := &privacyv1.UserForgotten{Customer: in.GetCustomer()}
	for _, answer := range answers {
		forgotten.Services = append(forgotten.Services, &privacyv1.ServiceErasure{Participant: answer.Participant,
			Erased: answer.Reply.GetErased()})
	}
	return forgotten, nil
}
