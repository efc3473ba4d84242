package main

import (
	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	"github.com/treatyhq/treaty/gen/acme/credit/v1/creditv1saga"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/gen/acme/notification/v1/notificationv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// IssueCard makes a person a customer and sends them a card. Whoever refuses before the card is issued ends it: what
// was done until then is undone. The card itself is the point of no return.
func (Sagas) IssueCard(ctx saga.Context, in *cardv1.IssueCardSagaRequest) (*cardv1.CardGranted, error) {
	customer, err := customerv1saga.CreateCustomer(ctx, &customerv1.CreateCustomerRequest{
		DisplayName: in.GetPerson().GetDisplayName(),
		Email:       in.GetPerson().GetEmail(),
		Address:     homeAt(in.GetPostal()),
	})
	if err != nil {
		return nil, err
	}
	applicant, err := identityv1saga.RegisterApplicant(ctx, &identityv1.RegisterApplicantRequest{
		Customer:       customer.GetCustomer(),
		DisplayName:    in.GetPerson().GetDisplayName(),
		PassportNumber: in.GetPerson().GetPassportNumber(),
	})
	if err != nil {
		return nil, err // the customer is removed
	}
	checked, err := creditv1saga.CheckCredit(ctx, &creditv1.CheckCreditRequest{
		NationalId:          in.GetPerson().GetNationalId(),
		YearlyIncomeCents:   in.GetPerson().GetYearlyIncomeCents(),
		RequestedLimitCents: in.GetLimitCents(),
		Customer:            customer.GetCustomer(),
	})
	if err != nil {
		return nil, err // the applicant is withdrawn, then the customer removed
	}
	card, err := cardv1saga.IssueCard(ctx, &cardv1.IssueCardRequest{
		Customer:        customer.GetCustomer(),
		Product:         in.GetProduct(),
		LimitCents:      in.GetLimitCents(),
		Postal:          in.GetPostal(),
		AddressRevision: customer.GetAddressRevision(),
	})
	if err != nil {
		return nil, err // the check is abandoned as well
	}
	// The card is on its way, so from here on everything is tried until it is done.
	if _, err := notificationv1saga.SendWelcome(ctx, &notificationv1.SendWelcomeRequest{
		Customer:     customer.GetCustomer(),
		DisplayName:  in.GetPerson().GetDisplayName(),
		Email:        in.GetPerson().GetEmail(),
		CardLastFour: card.GetLastFour(),
	}); err != nil && !forgotten(err) {
		return nil, err
	}
	return &cardv1.CardGranted{
		Card:      card.GetCard(),
		LastFour:  card.GetLastFour(),
		Customer:  customer.GetCustomer(),
		Applicant: applicant.GetApplicant(),
		Check:     checked.GetCheck(),
	}, nil
}

// homeAt is the address of who gets letters there.
func homeAt(p *cardv1.Postal) *customerv1.Address {
	return &customerv1.Address{
		Lines: p.GetLines(), PostalCode: p.GetPostalCode(), City: p.GetCity(), Country: p.GetCountry(),
	}
}
