package main

import (
	"context"
	"fmt"
	"strings"

	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// deleteUserData shows a broadcast: a command to every service that implements its contract.
func (d *demo) deleteUserData(ctx context.Context) error {
	d.heading("DeleteUserData: Grace wants to be forgotten; the saga asks every service that implements the contract")
	f, err := d.fileOf(ctx, grace)
	if err != nil {
		return err
	}
	forgotten := &privacyv1.UserForgotten{}
	if _, err := d.follow(ctx, d.call(ctx, "acme.privacy.v1.PrivacySagas/DeleteUserData",
		&privacyv1.DeleteUserDataSagaRequest{
			RequestId: "forget-grace", Customer: f.customer.GetName(),
		}, forgotten), treatyv1.SagaState_SAGA_STATE_SUCCEEDED); err != nil {
		return err
	}
	d.out.line(dim, "    What each service erased, according to the saga's reply:")
	rows := make([][]cell, 0, len(forgotten.GetServices()))
	for _, service := range forgotten.GetServices() {
		participant, _ := names(service.GetParticipant())
		rows = append(rows, []cell{{participant, cyan}, {orNothing(erased(service.GetErased()), "nothing"), plain}})
	}
	if len(rows) > 0 {
		d.out.table("    ", rows)
	}
	d.check(len(forgotten.GetServices()) == len(company.Participants()),
		fmt.Sprintf("%d services were asked", len(forgotten.GetServices())))
	return d.hasNothing(ctx, grace, creditv1.CheckState_CHECK_STATE_UNSPECIFIED)
}

// erased describes erased records.
func erased(records []*privacyv1.ErasedRecords) string {
	var parts []string
	for _, r := range records {
		if r.GetDeleted() > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d deleted", r.GetKind(), r.GetDeleted()))
		}
		if r.GetAnonymized() > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d kept without the person", r.GetKind(), r.GetAnonymized()))
		}
	}
	return strings.Join(parts, ", ")
}
