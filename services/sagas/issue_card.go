package main

import (
	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/gen/acme/notification/v1/notificationv1saga"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// IssueCard makes a person a customer and issues a card to them. If a service refuses before the card is issued,
// everything done so far is compensated. Issuing the card is the pivot.
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
		return nil, err // The customer is removed.
	}
	need := &creditv1.CheckCreditRequest{
		NationalId:          in.GetPerson().GetNationalId(),
		YearlyIncomeCents:   in.GetPerson().GetYearlyIncomeCents(),
		RequestedLimitCents: in.GetLimitCents(),
		Customer:            customer.GetCustomer(),
	}
	var last *creditv1.Check
	if decidesOnChecks(ctx) {
		if last, err = lastCheck(ctx, need); err != nil {
			return nil, err
		}
	}
	check, err := passCheck(ctx, last, need)
	if err != nil {
		return nil, err // The applicant is withdrawn, then the customer is removed.
	}
	card, err := cardv1saga.IssueCard(ctx, &cardv1.IssueCardRequest{
		Customer:        customer.GetCustomer(),
		Product:         in.GetProduct(),
		LimitCents:      in.GetLimitCents(),
		Postal:          in.GetPostal(),
		AddressRevision: customer.GetAddressRevision(),
	})
	if err != nil {
		return nil, err // The check is abandoned or released as well.
	}
	// The card is on its way. From here on, every command is retried until it is done.
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
		Check:     check,
	}, nil
}

// homeAt returns the address for a postal address.
func homeAt(p *cardv1.Postal) *customerv1.Address {
	return &customerv1.Address{
		Lines: p.GetLines(), PostalCode: p.GetPostalCode(), City: p.GetCity(), Country: p.GetCountry(),
	}
}
