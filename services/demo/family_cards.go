package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/company"
)

// The saga definitions that appear in more than one story.
const (
	issueFamilyCards = "acme.card.v1.FamilySagas/IssueFamilyCards"
	verifyApplicant  = "acme.identity.v1.IdentitySagas/VerifyApplicant"
)

// The families who apply for cards. The head of the family comes first.
var (
	curies = []*cardv1.Person{
		{DisplayName: "Marie Curie", Email: "marie@example.com", PassportNumber: "MC186711", NationalId: "marie-1867",
			YearlyIncomeCents: 90_000_00},
		{DisplayName: "Pierre Curie", Email: "pierre@example.com", PassportNumber: "PC185905",
			NationalId: "pierre-1859", YearlyIncomeCents: 60_000_00},
		{DisplayName: "Irène Curie", Email: "irene@example.com", PassportNumber: "IC189709", NationalId: "irene-1897",
			YearlyIncomeCents: 2_000_00},
	}
	hahns = []*cardv1.Person{
		{DisplayName: "Edith Hahn", Email: "edith@example.com", PassportNumber: "EH188704", NationalId: "edith-1887",
			YearlyIncomeCents: 120_000_00},
		{DisplayName: "Otto Hahn", Email: "otto@example.com", PassportNumber: "OH187903", NationalId: "otto-1879",
			YearlyIncomeCents: 120_000_00},
	}
	noethers = []*cardv1.Person{
		{DisplayName: "Emmy Noether", Email: "emmy@example.com", PassportNumber: "EN188203", NationalId: "emmy-1882",
			YearlyIncomeCents: 70_000_00},
		{DisplayName: "Fritz Noether", Email: "fritz@example.com", PassportNumber: "FN188410", NationalId: "fritz-1884",
			YearlyIncomeCents: 40_000_00},
	}
)

// familyCards shows most of the saga language.
func (d *demo) familyCards(ctx context.Context) error {
	d.heading("IssueFamilyCards: the Curies ask for gold; two people are verified at a time, " +
		"and the family can change its mind for a second")
	request := &cardv1.IssueFamilyCardsRequest{
		RequestId: "curies-apply", Product: "gold", LimitCents: 10_000_00, Postal: mail(firstHome), Head: curies[0],
		Members:    curies[1:],
		CoolingOff: durationpb.New(time.Second),
	}
	granted := &cardv1.FamilyCardsGranted{}
	name, err := d.familyApplies(ctx, request, granted, treatyv1.SagaState_SAGA_STATE_SUCCEEDED)
	if err != nil {
		return err
	}
	d.curies = name
	d.check(granted.GetProduct() == "classic",
		"gold was tried in a scope: Irène's income isn't high enough, so the saga chose classic")
	if err := d.showChild(ctx, name, verifyApplicant, treatyv1.SagaState_SAGA_STATE_SUCCEEDED); err != nil {
		return err
	}
	f, err := d.familyOf(ctx, curies)
	if err != nil {
		return err
	}
	extra := 0
	for _, c := range f.cards {
		if c.GetProduct() == "classic" && c.GetMainCard() != "" {
			extra++
		}
	}
	d.holds(
		held{company.Customer, fmt.Sprintf("%d customers", f.customers), f.customers == 3},
		held{company.Identity, fmt.Sprintf("%d applicants with %d passports inspected", f.applicants, f.inspections),
			f.applicants == 3 && f.inspections == 3},
		held{company.Credit, fmt.Sprintf("%d check passed for classic, %d for gold abandoned", f.passed, f.abandoned),
			f.passed == 1 && f.abandoned > 0},
		held{company.Card, fmt.Sprintf("%d classic cards, %d of them extra ones", len(f.cards), extra),
			len(f.cards) == 3 && extra == 2},
		held{company.Notification, fmt.Sprintf("%d welcomes sent", f.messages), f.messages == 3},
	)
	return nil
}

// familyCardsLate shows a scope whose deadline passes.
func (d *demo) familyCardsLate(ctx context.Context) error {
	d.heading("IssueFamilyCards: the Hahns could have gold, but not within the millisecond that they allow for it")
	request := &cardv1.IssueFamilyCardsRequest{
		RequestId: "hahns-apply", Product: "gold", LimitCents: 10_000_00, Postal: mail(secondHome), Head: hahns[0],
		Members:    hahns[1:],
		GoldWithin: durationpb.New(time.Millisecond),
	}
	granted := &cardv1.FamilyCardsGranted{}
	name, err := d.familyApplies(ctx, request, granted, treatyv1.SagaState_SAGA_STATE_SUCCEEDED)
	if err != nil {
		return err
	}
	saga, err := treatyv1.NewSagaServiceClient(d.company.Conn(company.Orchestrator)).GetSaga(ctx,
		&treatyv1.GetSagaRequest{Name: name})
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	late := len(saga.GetScopes()) == 1 &&
		saga.GetScopes()[0].GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE
	d.check(late && granted.GetProduct() == "classic",
		"the scope's deadline passed, the checks in flight were awaited and abandoned, and the saga chose classic")
	f, err := d.familyOf(ctx, hahns)
	if err != nil {
		return err
	}
	d.holds(
		held{company.Customer, fmt.Sprintf("%d customers", f.customers), f.customers == 2},
		held{company.Credit, fmt.Sprintf("%d check passed for classic, %d for gold abandoned", f.passed, f.abandoned),
			f.passed == 1},
		held{company.Card, fmt.Sprintf("%d classic cards", len(f.cards)), len(f.cards) == 2},
		held{company.Notification, fmt.Sprintf("%d welcomes sent", f.messages), f.messages == 2},
	)
	return nil
}

// familyCardsRefused shows the compensation of child sagas and of parallel branches.
func (d *demo) familyCardsRefused(ctx context.Context) error {
	d.heading("IssueFamilyCards: the Noethers pass everything, but classic cards don't offer a limit of € 8000, " +
		"so everything is compensated")
	request := &cardv1.IssueFamilyCardsRequest{
		RequestId: "noethers-apply", Product: "classic", LimitCents: 8_000_00, Postal: mail(secondHome),
		Head: noethers[0], Members: noethers[1:],
	}
	name, err := d.familyApplies(ctx, request, &cardv1.FamilyCardsGranted{}, treatyv1.SagaState_SAGA_STATE_COMPENSATED)
	if err != nil {
		return err
	}
	if err := d.showChild(ctx, name, verifyApplicant, treatyv1.SagaState_SAGA_STATE_COMPENSATED); err != nil {
		return err
	}
	f, err := d.familyOf(ctx, noethers)
	if err != nil {
		return err
	}
	d.holds(
		held{company.Customer, counted(f.customers, "customer"), f.customers == 0},
		held{company.Identity, counted(f.applicants, "applicant"), f.applicants == 0},
		held{company.Credit, fmt.Sprintf("%d check on file, abandoned", f.abandoned), f.abandoned == 1 &&
			f.passed == 0},
		held{company.Card, counted(len(f.cards), "card"), len(f.cards) == 0},
		held{company.Notification, counted(f.messages, "message"), f.messages == 0},
	)
	return nil
}

func counted(n int, what string) string {
	if n == 0 {
		return "no " + what
	}
	return fmt.Sprintf("%d × %s", n, what)
}

// familyApplies starts the saga, shows its progress while it runs, and then its timeline.
func (d *demo) familyApplies(
	ctx context.Context, request *cardv1.IssueFamilyCardsRequest, granted *cardv1.FamilyCardsGranted,
	wanted treatyv1.SagaState,
) (name string, err error) {
	if name, err = d.begin(ctx, issueFamilyCards, request); err != nil {
		return "", err
	}
	d.out.line(dim, "    Its own progress reports:")
	last := ""
	if err := d.watch(ctx, name, func(saga *treatyv1.Saga) bool {
		if text := progress(saga); text != last {
			last = text
			d.out.line(plain, fmt.Sprintf("      %-9s", short(time.Since(saga.GetCreateTime().AsTime())))+text)
		}
		return false
	}); err != nil {
		return "", err
	}
	// A call with the same request id attaches to the running saga.
	_, err = d.follow(ctx, d.call(ctx, issueFamilyCards, request, granted), wanted)
	return name, err
}

// progress describes a saga's progress. It returns "" before the saga has set any.
func progress(saga *treatyv1.Saga) string {
	at := &cardv1.FamilyProgress{}
	if saga.GetProgress().UnmarshalTo(at) != nil {
		return ""
	}
	stage := map[cardv1.FamilyStage]string{
		cardv1.FamilyStage_FAMILY_STAGE_VERIFYING:   "verifying people",
		cardv1.FamilyStage_FAMILY_STAGE_CHECKING:    "checking credit",
		cardv1.FamilyStage_FAMILY_STAGE_COOLING_OFF: "cooling off",
		cardv1.FamilyStage_FAMILY_STAGE_ISSUING:     "issuing cards",
	}[at.GetStage()]
	return fmt.Sprintf("%-18s%d of %d people verified, %d of %d cards issued", stage, at.GetVerified(), at.GetPeople(),
		at.GetCardsIssued(), at.GetPeople())
}

// mail returns the postal address for an address.
func mail(home *customerv1.Address) *cardv1.Postal {
	return &cardv1.Postal{
		Lines: home.GetLines(), PostalCode: home.GetPostalCode(), City: home.GetCity(), Country: home.GetCountry(),
	}
}

// families is what all services store about some people.
type families struct {
	customers, applicants, inspections, passed, abandoned, messages int
	cards                                                           []*cardv1.Card
}

// familyOf asks all services about a family.
func (d *demo) familyOf(ctx context.Context, people []*cardv1.Person) (*families, error) {
	holdings, err := d.company.Holdings(ctx)
	if err != nil {
		return nil, err
	}
	f := &families{}
	emails, passports, ids := make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, p := range people {
		emails[p.GetEmail()], passports[p.GetPassportNumber()], ids[p.GetNationalId()] = true, true, true
	}
	customers, applicants := make(map[string]bool), make(map[string]bool)
	for _, c := range holdings.Customers {
		if emails[c.GetEmail()] {
			customers[c.GetName()] = true
		}
	}
	for _, a := range holdings.Applicants {
		if passports[a.GetPassportNumber()] {
			applicants[a.GetName()] = true
		}
	}
	for _, i := range holdings.Inspections {
		if applicants[i.GetApplicant()] {
			f.inspections++
		}
	}
	for _, c := range holdings.Checks {
		switch {
		case !ids[c.GetNationalId()]:
		case c.GetState() == creditv1.CheckState_CHECK_STATE_PASSED:
			f.passed++
		default:
			f.abandoned++
		}
	}
	for _, c := range holdings.Cards {
		if customers[c.GetCustomer()] {
			f.cards = append(f.cards, c)
		}
	}
	for _, m := range holdings.Messages {
		if emails[m.GetEmail()] {
			f.messages++
		}
	}
	f.customers, f.applicants = len(customers), len(applicants)
	return f, nil
}
