package main

import (
	"errors"
	"time"

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

const (
	// atOnce is how many people of a family are handled at the same time.
	atOnce = 2

	// mostMembers is the maximum number of extra cards.
	mostMembers = 20

	classic, gold = "classic", "gold"

	// classicLimitCents is the highest limit of a classic card.
	classicLimitCents = 5_000_00

	// extraShare is the divisor that turns the main card's limit into the limit of an extra card.
	extraShare = 10

	// goldWithin is how long the checks for gold may take by default.
	goldWithin = time.Hour
)

// IssueFamilyCards issues cards to a whole family. If anything fails before the main card is issued, everything is
// compensated for everybody. Issuing the main card is the pivot.
func (Sagas) IssueFamilyCards(
	ctx saga.Context, in *cardv1.IssueFamilyCardsRequest,
) (*cardv1.FamilyCardsGranted, error) {
	if err := checkFamily(in); err != nil {
		return nil, err
	}
	f := familyOf(in)
	f.now(ctx, cardv1.FamilyStage_FAMILY_STAGE_VERIFYING)
	if err := saga.Each(ctx, f.people, f.admit, saga.AtMost(atOnce)); err != nil {
		return nil, err // Everybody who was admitted is removed again.
	}
	f.now(ctx, cardv1.FamilyStage_FAMILY_STAGE_CHECKING)
	if err := saga.All(ctx, f.choose, f.directLetters); err != nil {
		return nil, err
	}
	f.now(ctx, cardv1.FamilyStage_FAMILY_STAGE_COOLING_OFF)
	saga.Sleep(ctx, in.GetCoolingOff().AsDuration())

	f.now(ctx, cardv1.FamilyStage_FAMILY_STAGE_ISSUING)
	if err := f.issueMainCard(ctx); err != nil {
		return nil, err
	}
	// The main card is on its way. From here on, every command is retried until it is done.
	if err := saga.Each(ctx, f.people[1:], f.issueExtraCard, saga.AtMost(atOnce)); err != nil {
		return nil, err
	}
	if err := saga.Each(ctx, f.people, welcome, saga.AtMost(atOnce)); err != nil {
		return nil, err
	}
	return f.granted(), nil
}

func checkFamily(in *cardv1.IssueFamilyCardsRequest) error {
	switch {
	case in.GetProduct() != classic && in.GetProduct() != gold:
		return invalid("product: want %q or %q, got %.40q", classic, gold, in.GetProduct())
	case in.GetHead() == nil:
		return invalid("head: missing")
	case len(in.GetMembers()) > mostMembers:
		return invalid("members: want at most %d, got %d", mostMembers, len(in.GetMembers()))
	}
	return nil
}

// family is the state of an IssueFamilyCards saga. Its branches share it: only one of them runs at a time.
type family struct {
	in       *cardv1.IssueFamilyCardsRequest
	people   []*relative // The head of the family comes first.
	product  string
	limit    int64
	progress *cardv1.FamilyProgress
}

// relative is one person of a family.
type relative struct {
	*cardv1.Person

	customer  *customerv1.CustomerCreated
	applicant string
	lastCheck *creditv1.Check
	share     int64 // the divisor of the limit for this person
	card      *cardv1.FamilyCard
}

func familyOf(in *cardv1.IssueFamilyCardsRequest) *family {
	f := &family{in: in, people: []*relative{{Person: in.GetHead(), share: 1}}}
	for _, member := range in.GetMembers() {
		f.people = append(f.people, &relative{Person: member, share: extraShare})
	}
	f.progress = &cardv1.FamilyProgress{People: int32(len(f.people))}
	return f
}

// now publishes the saga's progress.
func (f *family) now(ctx saga.Context, stage cardv1.FamilyStage) {
	f.progress.Stage = stage
	saga.SetProgress(ctx, f.progress)
}

// admit makes a person a customer and has them verified, which may take days.
func (f *family) admit(ctx saga.Context, p *relative) (err error) {
	p.customer, err = customerv1saga.CreateCustomer(ctx, &customerv1.CreateCustomerRequest{
		DisplayName: p.GetDisplayName(),
		Email:       p.GetEmail(),
		Address:     homeAt(f.in.GetPostal()),
	})
	if err != nil {
		return err
	}
	confirmed, err := identityv1saga.VerifyApplicant(ctx, &identityv1.VerifyApplicantRequest{
		Customer:       p.customer.GetCustomer(),
		DisplayName:    p.GetDisplayName(),
		PassportNumber: p.GetPassportNumber(),
		ConfirmWithin:  f.in.GetConfirmWithin(),
	})
	if err != nil {
		return err
	}
	p.applicant = confirmed.GetApplicant()
	f.progress.Verified++
	saga.SetProgress(ctx, f.progress)
	return nil
}

// choose chooses the family's product: gold, if it is requested and everybody passes a check in time, and otherwise
// classic.
func (f *family) choose(ctx saga.Context) error {
	f.product, f.limit = f.in.GetProduct(), f.in.GetLimitCents()
	if decidesOnChecks(ctx) {
		who := f.people[:1]
		if f.product == gold {
			who = f.people
		}
		if err := saga.Each(ctx, who, f.findCheck, saga.AtMost(atOnce)); err != nil {
			return err
		}
	}
	if f.product == gold {
		err := saga.Try(ctx, func(ctx saga.Context) error {
			return saga.Each(ctx, f.people, f.checkCredit, saga.AtMost(atOnce))
		}, saga.Within(orElse(f.in.GetGoldWithin(), goldWithin)))
		if _, declined := saga.Rejection[*creditv1.CreditDeclined](err); !declined &&
			!errors.Is(err, saga.ErrDeadline) {
			return err
		}
		// The checks are abandoned, so the head of the family is checked for classic.
		f.product, f.limit = classic, min(f.limit, classicLimitCents)
	}
	return f.checkCredit(ctx, f.people[0])
}

// findCheck finds the last credit check of a person.
func (f *family) findCheck(ctx saga.Context, p *relative) (err error) {
	p.lastCheck, err = lastCheck(ctx, f.need(p))
	return err
}

// checkCredit ensures that a person can afford their limit.
func (f *family) checkCredit(ctx saga.Context, p *relative) error {
	_, err := passCheck(ctx, p.lastCheck, f.need(p))
	return err
}

// need returns the check that a person needs for the product.
func (f *family) need(p *relative) *creditv1.CheckCreditRequest {
	return &creditv1.CheckCreditRequest{
		NationalId:          p.GetNationalId(),
		YearlyIncomeCents:   p.GetYearlyIncomeCents(),
		RequestedLimitCents: f.limit / p.share,
		Customer:            p.customer.GetCustomer(),
	}
}

// directLetters ensures that cards can be posted to the family's address, before anybody is promised one.
func (f *family) directLetters(ctx saga.Context) error {
	_, err := cardv1saga.ChangePostalAddress(ctx, &cardv1.ChangePostalAddressRequest{
		Customer:        f.people[0].customer.GetCustomer(),
		Postal:          f.in.GetPostal(),
		AddressRevision: f.people[0].customer.GetAddressRevision(),
	})
	return err
}

func (f *family) issueMainCard(ctx saga.Context) error {
	head := f.people[0]
	issued, err := cardv1saga.IssueCard(ctx, &cardv1.IssueCardRequest{
		Customer:        head.customer.GetCustomer(),
		Product:         f.product,
		LimitCents:      f.limit,
		Postal:          f.in.GetPostal(),
		AddressRevision: head.customer.GetAddressRevision(),
	})
	if err != nil {
		return err
	}
	f.issued(ctx, head, issued.GetCard(), issued.GetLastFour())
	return nil
}

func (f *family) issueExtraCard(ctx saga.Context, p *relative) error {
	issued, err := cardv1saga.IssueExtraCard(ctx, &cardv1.IssueExtraCardRequest{
		Customer:        p.customer.GetCustomer(),
		MainCard:        f.people[0].card.GetCard(),
		Postal:          f.in.GetPostal(),
		AddressRevision: p.customer.GetAddressRevision(),
	})
	if forgotten(err) {
		return nil // A forgotten customer gets no card.
	}
	if err != nil {
		return err
	}
	f.issued(ctx, p, issued.GetCard(), issued.GetLastFour())
	return nil
}

func (f *family) issued(ctx saga.Context, p *relative, card, lastFour string) {
	p.card = &cardv1.FamilyCard{
		Card: card, LastFour: lastFour, Customer: p.customer.GetCustomer(), Applicant: p.applicant,
	}
	f.progress.CardsIssued++
	saga.SetProgress(ctx, f.progress)
}

// welcome sends a message to a person who has a card.
func welcome(ctx saga.Context, p *relative) error {
	if p.card == nil {
		return nil
	}
	_, err := notificationv1saga.SendWelcome(ctx, &notificationv1.SendWelcomeRequest{
		Customer:     p.customer.GetCustomer(),
		DisplayName:  p.GetDisplayName(),
		Email:        p.GetEmail(),
		CardLastFour: p.card.GetLastFour(),
	})
	if forgotten(err) {
		return nil
	}
	return err
}

func (f *family) granted() *cardv1.FamilyCardsGranted {
	granted := &cardv1.FamilyCardsGranted{Product: f.product, LimitCents: f.limit}
	for _, p := range f.people {
		if p.card != nil {
			granted.Cards = append(granted.Cards, p.card)
		}
	}
	return granted
}
