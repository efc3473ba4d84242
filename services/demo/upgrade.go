package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// alan is a family of one.
var alan = &cardv1.Person{
	DisplayName: "Alan Turing", Email: "alan@example.com", PassportNumber: "AT191206", NationalId: "alan-1912",
	YearlyIncomeCents: 50_000_00,
}

// sleeper is a saga that waits for a long time.
type sleeper struct {
	definition string
	request    identified
	name       string
}

// upgrade shows the gate before a deployment, sagas that keep sleeping across a restart, and their cancellation.
func (d *demo) upgrade(ctx context.Context) error {
	d.heading("The upgrade gate: can this build of the orchestrator continue the sagas that sleep in its store?")
	sleepers, err := d.sleepers(ctx)
	if err != nil {
		return err
	}
	rows := [][]cell{header("SAGA", "DEFINITION", "")}
	for _, s := range sleepers {
		if err := s.start(ctx, d); err != nil {
			return err
		}
	}
	for _, s := range sleepers {
		wait, err := d.untilWaits(ctx, s.name)
		if err != nil {
			return err
		}
		rows = append(rows, []cell{{s.name, dim}, {command(s.definition), plain}, {until(wait), plain}})
	}
	d.out.table("    ", rows)
	said, err := d.company.Verify(ctx)
	if err != nil {
		return err
	}
	d.out.line(dim, "    While the orchestrator is running:")
	d.out.line(plain, "      sagas verify --store "+d.company.Store())
	d.out.line(plain, "      "+said)
	d.check(said == "3 of 3 open sagas can continue with this build",
		"all open sagas were replayed, without any effect, and passed")
	if err := d.redeploy(ctx); err != nil {
		return err
	}
	for _, s := range sleepers {
		if err := d.cancel(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// sleepers returns sagas that would end in weeks, in days, and in years.
func (d *demo) sleepers(ctx context.Context) ([]*sleeper, error) {
	f, err := d.fileOf(ctx, barbara)
	if err != nil {
		return nil, err
	}
	return []*sleeper{
		{
			definition: issueFamilyCards,
			request: &cardv1.IssueFamilyCardsRequest{
				RequestId: "alan-applies", Product: "classic", LimitCents: limitCents, Postal: mail(firstHome),
				Head: alan, CoolingOff: durationpb.New(14 * 24 * time.Hour),
			},
		},
		{
			definition: verifyApplicant,
			request: &identityv1.VerifyApplicantRequest{
				RequestId: "verify-barbara", Customer: f.customer.GetName(), DisplayName: barbara.GetDisplayName(),
				PassportNumber: mislaid,
			},
		},
		{
			definition: reviewCustomer,
			request:    &customerv1.ReviewCustomerRequest{RequestId: "review-barbara", Customer: f.customer.GetName()},
		},
	}, nil
}

func (s *sleeper) start(ctx context.Context, d *demo) (err error) {
	s.name, err = d.begin(ctx, s.definition, s.request)
	return err
}

// untilWaits waits until a saga waits for something other than a command.
func (d *demo) untilWaits(ctx context.Context, name string) (found *treatyv1.Wait, err error) {
	err = d.watch(ctx, name, func(saga *treatyv1.Saga) bool {
		if len(saga.GetWaits()) > 0 {
			found = saga.GetWaits()[0]
		}
		return found != nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("%s ended without waiting", name)
	}
	return found, err
}

// until describes a wait.
func until(w *treatyv1.Wait) string {
	days := int(w.GetDueTime().AsTime().Sub(w.GetScheduleTime().AsTime()).Hours() / 24)
	if len(w.GetEvents()) == 0 {
		return fmt.Sprintf("sleeps for %d days", days)
	}
	return fmt.Sprintf("%s, for %d days", waiting(w.GetEvents()), days)
}

func command(definition string) string {
	_, command := names(definition)
	return command
}

// redeploy replaces the orchestrator's process, as a deployment does.
func (d *demo) redeploy(ctx context.Context) error {
	orchestrator := d.company.Process(company.Orchestrator)
	before := orchestrator.PID()
	if err := orchestrator.Stop(); err != nil {
		return err
	}
	if err := orchestrator.Start(); err != nil {
		return err
	}
	open, err := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator)).
		ListSagas(ctx, &treatyv1.ListSagasRequest{PageSize: 1000, Filter: `state = "RUNNING"`}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("listing sagas after the deployment: %w", err)
	}
	d.check(len(open.GetSagas()) == 3, fmt.Sprintf("deployed: process %d replaced %d, and %d sagas keep sleeping",
		orchestrator.PID(), before, len(open.GetSagas())))
	return nil
}

// cancel cancels a sleeping saga, and shows the outcome.
func (d *demo) cancel(ctx context.Context, s *sleeper) error {
	if _, err := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator)).CancelSaga(ctx,
		&treatyv1.CancelSagaRequest{
			Name: s.name, Decision: &treatyv1.Decision{Actor: "demo", Reason: "they changed their mind"},
		}); err != nil {
		return fmt.Errorf("cancelling %s: %w", s.name, err)
	}
	saga, err := d.waited(ctx, s.definition, s.name, s.request.GetRequestId())
	if err != nil {
		return err
	}
	compensated := 0
	for _, step := range saga.GetSteps() {
		if step.GetState() == treatyv1.StepState_STEP_STATE_COMPENSATED {
			compensated++
		}
	}
	d.check(saga.GetState() == treatyv1.SagaState_SAGA_STATE_COMPENSATED,
		fmt.Sprintf("%s was cancelled: %d steps compensated", command(s.definition), compensated))
	return nil
}
