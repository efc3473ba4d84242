package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/client"
	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// The addresses in these stories.
var (
	firstHome = &customerv1.Address{
		Lines: []string{"Oude Delft 1"}, PostalCode: "2611 AA", City: "Delft", Country: "NL",
	}
	secondHome = &customerv1.Address{
		Lines: []string{"Rapenburg 70"}, PostalCode: "2311 EZ", City: "Leiden", Country: "NL",
	}
	box = &customerv1.Address{
		Lines: []string{"P.O. Box 7"}, PostalCode: "1000 AA", City: "Amsterdam", Country: "NL",
	}
)

// open makes Ada a customer with a direct call, outside of any saga.
func (d *demo) open(ctx context.Context) error {
	created, err := customerv1.NewCustomerServiceClient(d.company.Conn(company.Customer)).CreateCustomer(ctx,
		&customerv1.CreateCustomerRequest{
			DisplayName: "Ada Lovelace", Email: "ada@example.com", Address: firstHome,
		})
	if err != nil {
		return fmt.Errorf("making Ada a customer: %w", err)
	}
	d.ada = created.GetCustomer()
	d.starts.given = append(d.starts.given, audit.Effect{Service: company.Customer, Resource: d.ada})
	d.out.para("Ada is a customer and lives at " + company.Line(firstHome) + ".")
	return nil
}

func (d *demo) changeAddress(ctx context.Context) error {
	d.heading("ChangeAddress: Ada moves to " + company.Line(secondHome))
	saga, err := d.follow(ctx, d.move(ctx, "ada-moves", secondHome), treatyv1.SagaState_SAGA_STATE_SUCCEEDED)
	if err != nil {
		return err
	}
	published, err := d.streamed(ctx, &treatyv1.StreamEventsRequest{Subject: d.ada})
	if err != nil {
		return err
	}
	d.check(published.GetSource() == saga.GetName()+"/steps/1",
		fmt.Sprintf("the reply %s of step 1 is also an event, published in the same commit that recorded it",
			lastPart(published.GetType())))
	return d.livesAt(ctx, secondHome)
}

func (d *demo) changeAddressToBox(ctx context.Context) error {
	d.heading("ChangeAddress: Ada wants her post at a P.O. box, which cards aren't posted to")
	e := d.move(ctx, "ada-wants-a-box", box)
	if _, err := d.follow(ctx, e, treatyv1.SagaState_SAGA_STATE_COMPENSATED); err != nil {
		return err
	}
	_, notServed := client.Rejection[*cardv1.AddressNotServed](e.err)
	d.check(notServed, "the caller received the card service's rejection, AddressNotServed")
	return d.livesAt(ctx, secondHome)
}

// move calls ChangeAddress for Ada.
func (d *demo) move(ctx context.Context, requestID string, to *customerv1.Address) ended {
	ctx, cancel := context.WithTimeout(ctx, sagaTime)
	defer cancel()
	e := ended{definition: "acme.customer.v1.CustomerSagas/ChangeAddress", requestID: requestID}
	_, e.err = customerv1.NewCustomerSagasClient(d.company.Conn(company.Orchestrator)).ChangeAddress(ctx,
		&customerv1.ChangeAddressSagaRequest{
			RequestId: requestID, Customer: d.ada, Address: to,
		}, grpc.Header(&e.header))
	return e
}

// livesAt shows Ada's address, as each service stores it.
func (d *demo) livesAt(ctx context.Context, home *customerv1.Address) error {
	holdings, err := d.company.Holdings(ctx)
	if err != nil {
		return err
	}
	var lives *customerv1.Address
	for _, c := range holdings.Customers {
		if c.GetName() == d.ada {
			lives = c.GetAddress()
		}
	}
	var posted *cardv1.Postal
	for _, p := range holdings.PostalAddresses {
		if p.GetCustomer() == d.ada {
			posted = p.GetPostal()
		}
	}
	d.holds(
		held{company.Customer, "Ada lives at " + orNothing(company.Line(lives), "no address"),
			company.SameAddress(lives, home)},
		held{company.Card, "Ada's cards are posted to " + orNothing(company.Line(posted), "no address"),
			company.SameAddress(posted, home)},
	)
	return nil
}
