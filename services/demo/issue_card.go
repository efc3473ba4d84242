package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/treatyhq/treaty/client"
	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// The people who apply for a card.
var (
	grace = &cardv1.Person{
		DisplayName: "Grace Hopper", Email: "grace@example.com", PassportNumber: "GH190612", NationalId: "grace-1906",
		YearlyIncomeCents: 60_000_00,
	}
	edsger = &cardv1.Person{
		DisplayName: "Edsger Dijkstra", Email: "edsger@example.com", PassportNumber: "ED193005",
		NationalId: "edsger-1930", YearlyIncomeCents: 9_000_00,
	}
	barbara = &cardv1.Person{
		DisplayName: "Barbara Liskov", Email: "barbara@example.com", PassportNumber: "BL193911",
		NationalId: "barbara-1939", YearlyIncomeCents: 80_000_00,
	}
	katherine = &cardv1.Person{
		DisplayName: "Katherine Johnson", Email: "katherine@example.com", PassportNumber: "KJ191808",
		NationalId: "katherine-1918", YearlyIncomeCents: 70_000_00,
	}
)

// limitCents is the limit that everybody asks for.
const limitCents = 2_500_00

func (d *demo) issueCard(ctx context.Context) error {
	d.heading("IssueCard: Grace gets a card, and was never checked before")
	saga, err := d.follow(ctx, d.apply(ctx, application("grace-applies", grace, firstHome)),
		treatyv1.SagaState_SAGA_STATE_SUCCEEDED)
	if err != nil {
		return err
	}
	d.check(sent(saga, creditv1.CreditService_CheckCredit_FullMethodName),
		"the saga found no earlier check, so it had her credit checked")
	return d.hasCard(ctx, grace)
}

func (d *demo) issueCardDeclined(ctx context.Context) error {
	d.heading("IssueCard: Edsger's income isn't high enough for the limit, so the credit check is declined")
	e := d.apply(ctx, application("edsger-applies", edsger, firstHome))
	if _, err := d.follow(ctx, e, treatyv1.SagaState_SAGA_STATE_COMPENSATED); err != nil {
		return err
	}
	_, declined := client.Rejection[*creditv1.CreditDeclined](e.err)
	d.check(declined, "the caller received the credit service's rejection, CreditDeclined")
	return d.hasNothing(ctx, edsger, creditv1.CheckState_CHECK_STATE_UNSPECIFIED)
}

func (d *demo) issueCardToBox(ctx context.Context) error {
	d.heading("IssueCard: Barbara passes the check, but wants her card at a P.O. box")
	if _, err := d.follow(ctx, d.apply(ctx, application("barbara-applies", barbara, box)),
		treatyv1.SagaState_SAGA_STATE_COMPENSATED); err != nil {
		return err
	}
	return d.hasNothing(ctx, barbara, creditv1.CheckState_CHECK_STATE_ABANDONED)
}

func (d *demo) issueCardAgain(ctx context.Context) error {
	d.heading("IssueCard: Barbara applies again, and was checked in the last 24 hours")
	saga, err := d.follow(ctx, d.apply(ctx, application("barbara-applies-again", barbara, secondHome)),
		treatyv1.SagaState_SAGA_STATE_SUCCEEDED)
	if err != nil {
		return err
	}
	d.check(!sent(saga, creditv1.CreditService_CheckCredit_FullMethodName) &&
		sent(saga, creditv1.CreditService_ReuseCheck_FullMethodName),
		"the saga found the earlier check and relied on it: she wasn't checked again")
	f, err := d.fileOf(ctx, barbara)
	if err != nil {
		return err
	}
	d.check(len(f.checks) == 2 && f.timesChecked() == 1, "the earlier check is on file for both applications")
	return d.hasCard(ctx, barbara)
}

// sent returns whether a saga has sent a command.
func sent(saga *treatyv1.Saga, fullMethod string) bool {
	return slices.ContainsFunc(saga.GetSteps(), func(s *treatyv1.Step) bool { return "/"+s.GetMethod() == fullMethod })
}

// application is a request for a card.
func application(requestID string, person *cardv1.Person, home *customerv1.Address) *cardv1.IssueCardSagaRequest {
	return &cardv1.IssueCardSagaRequest{
		RequestId: requestID, Product: "classic", LimitCents: limitCents, Person: person, Channel: "demo",
		Postal: &cardv1.Postal{Lines: home.GetLines(), PostalCode: home.GetPostalCode(), City: home.GetCity(),
			Country: home.GetCountry()},
	}
}

// apply calls IssueCard.
func (d *demo) apply(ctx context.Context, request *cardv1.IssueCardSagaRequest, options ...grpc.CallOption) ended {
	ctx, cancel := context.WithTimeout(ctx, sagaTime)
	defer cancel()
	e := ended{definition: "acme.card.v1.CardSagas/IssueCard", requestID: request.GetRequestId()}
	_, e.err = cardv1.NewCardSagasClient(d.company.Conn(company.Orchestrator)).IssueCard(ctx, request,
		append(options, grpc.Header(&e.header))...)
	return e
}

// file is what all services store about one person.
type file struct {
	customer  *customerv1.Customer
	applicant *identityv1.Applicant
	checks    []*creditv1.Check
	card      *cardv1.Card
	message   *notificationv1.Message
}

// timesChecked returns how often a person's credit was checked. A check that was reused has another row with the same
// time.
func (f *file) timesChecked() int {
	times := make(map[time.Time]bool)
	for _, c := range f.checks {
		times[c.GetCheckTime().AsTime()] = true
	}
	return len(times)
}

// fileOf asks all services about a person.
func (d *demo) fileOf(ctx context.Context, person *cardv1.Person) (*file, error) {
	holdings, err := d.company.Holdings(ctx)
	if err != nil {
		return nil, err
	}
	f := &file{}
	for _, c := range holdings.Customers {
		if c.GetEmail() == person.GetEmail() {
			f.customer = c
		}
	}
	for _, a := range holdings.Applicants {
		if a.GetPassportNumber() == person.GetPassportNumber() {
			f.applicant = a
		}
	}
	for _, c := range holdings.Checks {
		if c.GetNationalId() == person.GetNationalId() {
			f.checks = append(f.checks, c)
		}
	}
	for _, c := range holdings.Cards {
		if f.customer != nil && c.GetCustomer() == f.customer.GetName() {
			f.card = c
		}
	}
	for _, m := range holdings.Messages {
		if m.GetEmail() == person.GetEmail() {
			f.message = m
		}
	}
	return f, nil
}

// hasCard shows that all services know a person who has a card.
func (d *demo) hasCard(ctx context.Context, person *cardv1.Person) error {
	f, err := d.fileOf(ctx, person)
	if err != nil {
		return err
	}
	customer, who := f.customer.GetName(), person.GetDisplayName()
	check := ""
	if f.timesChecked() == 1 {
		check = fmt.Sprintf("one check, for up to %s", euros(f.checks[0].GetApprovedLimitCents()))
	}
	card := ""
	if f.card != nil {
		card = fmt.Sprintf("a %s card for %s, on its way", f.card.GetProduct(), euros(f.card.GetLimitCents()))
	}
	d.holds(
		held{company.Customer, orNothing(customer, "nobody"), customer != ""},
		held{company.Identity, orNothing(f.applicant.GetName(), "nobody"), f.applicant != nil &&
			f.applicant.GetCustomer() == customer},
		held{company.Credit, orNothing(check, fmt.Sprintf("%d checks", f.timesChecked())), check != ""},
		held{company.Card, orNothing(card, "no card"), card != ""},
		held{company.Notification, orNothing(f.message.GetSubject(), "nothing") + " sent to " + who, f.message != nil &&
			f.message.GetCustomer() == customer},
	)
	return nil
}

// hasNothing shows that no service stores anything about a person whose application failed, except a check that took
// place.
func (d *demo) hasNothing(ctx context.Context, person *cardv1.Person, check creditv1.CheckState) error {
	f, err := d.fileOf(ctx, person)
	if err != nil {
		return err
	}
	checks, right := "no check", len(f.checks) == 0
	if check != creditv1.CheckState_CHECK_STATE_UNSPECIFIED {
		right = len(f.checks) == 1 && f.checks[0].GetState() == check
	}
	if len(f.checks) > 0 {
		checks = "a check on file, abandoned"
	}
	d.holds(
		held{company.Customer, orNothing(f.customer.GetName(), "nobody with that e-mail address"), f.customer == nil},
		held{company.Identity, orNothing(f.applicant.GetName(), "no applicant"), f.applicant == nil},
		held{company.Credit, checks, right},
		held{company.Card, orNothing(f.card.GetName(), "no card"), f.card == nil},
		held{company.Notification, orNothing(f.message.GetSubject(), "nothing sent"), f.message == nil},
	)
	return nil
}

func euros(cents int64) string { return fmt.Sprintf("€ %d", cents/100) }
