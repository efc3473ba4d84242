package proof

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

const (
	changeAddress = "acme.customer.v1.CustomerSagas/ChangeAddress"
	issueCard     = "acme.card.v1.CardSagas/IssueCard"

	issueFamilyCards = "acme.card.v1.FamilySagas/IssueFamilyCards"
	verifyApplicant  = "acme.identity.v1.IdentitySagas/VerifyApplicant"
	reviewCustomer   = "acme.customer.v1.ReviewSagas/ReviewCustomer"
	deleteUserData   = "acme.privacy.v1.PrivacySagas/DeleteUserData"
)

// callTime is how long one call of a patient client may take. Then the client calls again.
const callTime = 10 * time.Second

// client puts load on the company. It starts one saga after another, repeats calls with the same request id during
// outages, and remembers the answers.
type client struct {
	t         *testing.T
	company   *company.Company
	name      string
	number    int // from 0
	chance    *rand.Rand
	customers []string // for changes of address
	leavers   []string // for the deletion of their data

	started    int
	starts     map[string]*audit.Start // the acknowledged starts, by request id
	firstTime  bool                    // nobody applies for a card a second time
	nationalID string                  // of the last person who applied for a card; empty at first
	tally      *tally

	disaster *disaster
	restores int    // the replacements of the store that the client knows of
	seen     []seen // in order
}

// tally counts the calls of all clients.
type tally struct {
	calls, retries, again, cancels, cancelled, impatient atomic.Int64
}

// request is a saga to start.
type request struct {
	definition, id string
	message        proto.Message
}

// seen is a saga whose end its client knows.
type seen struct {
	request

	told time.Time
}

// work starts sagas until stop is closed or ctx ends. It returns when it knows how the last saga ended.
func (c *client) work(ctx context.Context, stop <-chan struct{}) {
	for {
		if !c.startAgain(ctx) {
			return
		}
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		default:
		}
		c.started++
		r := c.choose()
		if !c.learn(ctx, r, c.see) {
			return
		}
		c.seen = append(c.seen, seen{r, time.Now()})
	}
}

// learn learns how a saga ends. It returns false if that failed.
func (c *client) learn(ctx context.Context, r request, how func(context.Context, request) error) bool {
	if err := how(ctx, r); err != nil {
		c.t.Errorf("%s: %s with request id %s: %v", c.name, r.definition, r.id, err)
		return false
	}
	return true
}

// startAgain starts the sagas again, with the same request ids, that may have been lost since a backup that replaced
// the orchestrator's store. It returns false if that failed.
func (c *client) startAgain(ctx context.Context) bool {
	for {
		restores := c.disaster.since(c.restores)
		if len(restores) == 0 {
			return true
		}
		c.restores++
		for i, s := range c.seen {
			if s.told.Before(restores[0].Backup) || s.told.After(restores[0].Done) {
				continue
			}
			if !c.learn(ctx, s.request, c.seeAgain) {
				return false
			}
			c.seen[i].told = time.Now()
		}
	}
}

// seeAgain starts a saga again whose end is known already.
func (c *client) seeAgain(ctx context.Context, r request) error {
	start := c.starts[r.id]
	before := start.Told
	for {
		c.tally.calls.Add(1)
		c.tally.again.Add(1)
		err := c.call(ctx, r, callTime)
		if told, final := toldBy(err); final {
			if start.Told = told; told != before {
				start.Before = before
			}
			return nil
		}
		if err := c.pause(ctx, err); err != nil {
			return err
		}
	}
}

// pause waits a moment after a call that didn't say how the saga ended. It returns an error if the call must not be
// repeated.
func (c *client) pause(ctx context.Context, err error) error {
	code := status.Code(err)
	if code != codes.Unavailable && code != codes.DeadlineExceeded && code != codes.Canceled &&
		(code != codes.NotFound || c.disaster == nil) {
		return err
	}
	select {
	case <-time.After(lookEvery): // such an answer comes at once from an orchestrator that isn't ready
		return nil
	case <-ctx.Done():
		return fmt.Errorf("it isn't known in time how the saga ended; the last call: %w", err)
	}
}

// choose makes up a saga. Most succeed; some are refused by one of the services.
func (c *client) choose() request {
	id := fmt.Sprintf("%s-%d", c.name, c.started)
	home := &customerv1.Address{Lines: []string{"Street " + id}, PostalCode: "2611 AA", City: "Delft", Country: "NL"}
	if c.chance.IntN(10) < 3 {
		home.Lines = []string{"P.O. Box 7", id}
	}
	if c.started == 1 { // even a short load has each kind, and a family that is compensated with its children
		home.Lines[0] = []string{"P.O. Box 7", "Street " + id}[c.number/kinds%2]
		return c.chooseOfTheLanguage(c.number%kinds, id, home)
	}
	if c.chance.IntN(3) == 0 {
		return c.chooseOfTheLanguage(c.chance.IntN(kinds), id, home)
	}
	if c.chance.IntN(2) == 0 {
		return request{changeAddress, id, &customerv1.ChangeAddressSagaRequest{
			RequestId: id, Customer: c.customers[c.chance.IntN(len(c.customers))], Address: home,
		}}
	}
	person := &cardv1.Person{
		DisplayName: "Person " + id, Email: id + "@example.com", NationalId: c.applicant(id),
		YearlyIncomeCents: 50_000_00, PassportNumber: fmt.Sprintf("P%08d", c.chance.IntN(1e8)),
	}
	apply := &cardv1.IssueCardSagaRequest{
		RequestId: id, Product: "classic", LimitCents: 1_000_00, Person: person, Channel: "proof",
		Postal: postal(home),
	}
	switch c.chance.IntN(10) {
	case 0: // declined by the credit check
		person.YearlyIncomeCents = 1_000_00
	case 1: // rejected by the identity register
		person.PassportNumber = fmt.Sprintf("XX%07d", c.chance.IntN(1e7))
	case 2: // refused by the card service
		apply.LimitCents = 6_000_00
	case 3: // refused by the customer service
		person.Email = "nowhere"
	}
	return request{issueCard, id, apply}
}

// applicant returns the national id of a person who applies for a card. Some apply a second time, so that their saga
// reuses their credit check. If the store is replaced, a saga that is started again would find checks of later ones.
func (c *client) applicant(id string) string {
	again := c.nationalID != "" && !c.firstTime && c.disaster == nil && c.chance.IntN(3) == 0
	if !again {
		c.nationalID = "nid-" + id
	}
	return c.nationalID
}

// kinds is the number of kinds of sagas in chooseOfTheLanguage.
const kinds = 6

// chooseOfTheLanguage makes up a saga of a kind. Together the kinds use the whole saga language: children, branches,
// scopes, sleeps, events, pending commands, broadcasts and restarts.
func (c *client) chooseOfTheLanguage(kind int, id string, home *customerv1.Address) request {
	switch kind {
	case 0:
		return request{deleteUserData, id, &privacyv1.DeleteUserDataSagaRequest{
			RequestId: id, Customer: c.leavers[c.chance.IntN(len(c.leavers))],
		}}
	case 1:
		return request{reviewCustomer, id, &customerv1.ReviewCustomerRequest{
			RequestId: id, Customer: c.customers[c.chance.IntN(len(c.customers))],
			Interval:   durationpb.New(time.Duration(50+c.chance.IntN(300)) * time.Millisecond),
			RoundsLeft: new(int32(1 + c.chance.IntN(3))),
		}}
	case 2, 3:
		return request{verifyApplicant, id, &identityv1.VerifyApplicantRequest{
			RequestId: id, Customer: c.customers[c.chance.IntN(len(c.customers))], DisplayName: "Person " + id,
			PassportNumber: c.passport(), ConfirmWithin: c.confirmWithin(),
		}}
	}
	family := &cardv1.IssueFamilyCardsRequest{
		RequestId: id, Product: []string{"classic", "gold"}[c.chance.IntN(2)], LimitCents: 2_000_00,
		Postal:     postal(home),
		Head:       c.person(id + "-head"),
		CoolingOff: durationpb.New(time.Duration(c.chance.IntN(400)) * time.Millisecond),
	}
	if c.disaster != nil {
		family.ConfirmWithin = c.confirmWithin()
	}
	for i := range 1 + c.chance.IntN(2) {
		family.Members = append(family.Members, c.person(fmt.Sprintf("%s-%d", id, i)))
	}
	return request{issueFamilyCards, id, family}
}

// confirmWithin returns how long a saga waits for the register's decision. If the store is replaced, the decision may
// have been published again before its saga was started again.
func (c *client) confirmWithin() *durationpb.Duration {
	if c.disaster != nil {
		return durationpb.New(15 * time.Second)
	}
	return durationpb.New(time.Minute)
}

func postal(home *customerv1.Address) *cardv1.Postal {
	return &cardv1.Postal{
		Lines: home.GetLines(), PostalCode: home.GetPostalCode(), City: home.GetCity(), Country: home.GetCountry(),
	}
}

func (c *client) person(id string) *cardv1.Person {
	return &cardv1.Person{
		DisplayName: "Person " + id, Email: id + "@example.com", NationalId: "nid-" + id, PassportNumber: c.passport(),
		YearlyIncomeCents: []int64{1_000_00, 20_000_00, 50_000_00, 90_000_00}[c.chance.IntN(4)],
	}
}

// passport makes up a passport number. Most are valid; some are rejected at once, rejected later, or forged.
func (c *client) passport() string {
	prefix := "PP"
	if c.chance.IntN(8) == 0 {
		prefix = []string{"XX", "YY", "FF"}[c.chance.IntN(3)]
	}
	return fmt.Sprintf("%s%07d", prefix, c.chance.IntN(1e7))
}

// see starts a saga and repeats the call until an answer says how the saga ended.
func (c *client) see(ctx context.Context, r request) error {
	byName := c.chance.IntN(3) == 0
	cancel := byName && c.chance.IntN(3) == 0
	for attempt := 0; ; attempt++ {
		c.tally.calls.Add(1)
		if attempt > 0 {
			c.tally.retries.Add(1)
		}
		patience := callTime
		if attempt == 0 && c.chance.IntN(8) == 0 {
			patience = time.Duration(c.chance.IntN(200)) * time.Millisecond
			c.tally.impatient.Add(1)
		}
		var err error
		if byName {
			err = c.createAndWait(ctx, r, patience, cancel)
		} else {
			err = c.call(ctx, r, patience)
		}
		told, final := toldBy(err)
		if final {
			c.starts[r.id].Told = told
			return nil
		}
		if err := c.pause(ctx, err); err != nil {
			return err
		}
	}
}

// errCompensated is the outcome of waiting for a saga by name if the saga was compensated.
var errCompensated = errors.New("compensated")

// compensatedReasons are the reasons of the errors that say that a saga was compensated.
var compensatedReasons = []treatyv1.ErrorReason{
	treatyv1.ErrorReason_ERROR_REASON_SAGA_COMPENSATED, treatyv1.ErrorReason_ERROR_REASON_SAGA_CANCELLED,
	treatyv1.ErrorReason_ERROR_REASON_SAGA_DEADLINE,
}

// toldBy returns the final state of the saga according to an answer, or false if the answer has none.
func toldBy(err error) (treatyv1.SagaState, bool) {
	switch {
	case err == nil:
		return treatyv1.SagaState_SAGA_STATE_SUCCEEDED, true
	case errors.Is(err, errCompensated),
		slices.Contains(compensatedReasons, reasonOf(err)):
		return treatyv1.SagaState_SAGA_STATE_COMPENSATED, true
	default:
		return treatyv1.SagaState_SAGA_STATE_UNSPECIFIED, false
	}
}

// reasonOf returns the reason of an orchestrator's error, or UNSPECIFIED.
func reasonOf(err error) treatyv1.ErrorReason {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == wire.ErrorDomain {
			return wire.ParseReason(info.GetReason())
		}
	}
	return treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED
}

// call calls the saga's own method.
func (c *client) call(ctx context.Context, r request, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var header metadata.MD
	options := []grpc.CallOption{grpc.WaitForReady(true), grpc.Header(&header)}
	// The content of the reply doesn't matter, so an empty message receives it.
	err := c.company.Conn(company.Orchestrator).Invoke(ctx, "/"+r.definition, r.message, new(emptypb.Empty), options...)
	// The header also names a saga whose start is in doubt. Such a start isn't acknowledged.
	inDoubt := reasonOf(err) == treatyv1.ErrorReason_ERROR_REASON_IN_DOUBT
	if name := strings.Join(header.Get(wire.SagaKey), ""); name != "" && !inDoubt {
		c.acknowledged(r, name)
	}
	return err
}

// createAndWait starts a saga by CreateSaga, cancels it at a random time if cancelIt is true, and waits until it has
// ended.
func (c *client) createAndWait(ctx context.Context, r request, patience time.Duration, cancelIt bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	message, err := anypb.New(r.message)
	if err != nil {
		return err
	}
	sagas := treatyv1.NewSagaServiceClient(c.company.Conn(company.Orchestrator))
	create := &treatyv1.CreateSagaRequest{Definition: r.definition, Request: message}
	saga, err := sagas.CreateSaga(ctx, create, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	name := saga.GetName()
	c.acknowledged(r, name)
	var cancelling sync.WaitGroup
	defer cancelling.Wait()
	if cancelIt {
		after := time.Duration(c.chance.IntN(400)) * time.Millisecond
		cancelling.Go(func() { c.cancel(ctx, name, after) })
	}
	saga, err = sagas.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: name}, grpc.WaitForReady(true))
	switch {
	case err != nil:
		return err
	case saga.GetState() == treatyv1.SagaState_SAGA_STATE_COMPENSATED:
		return errCompensated
	case saga.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
		return fmt.Errorf("waiting for %s returned while it is %s", name, saga.GetState())
	}
	return nil
}

// cancel cancels a saga after some time, which may be too late.
func (c *client) cancel(ctx context.Context, name string, after time.Duration) {
	select {
	case <-time.After(after): // random times are the point of this test
	case <-ctx.Done():
		return
	}
	c.tally.cancels.Add(1)
	sagas := treatyv1.NewSagaServiceClient(c.company.Conn(company.Orchestrator))
	_, err := sagas.CancelSaga(ctx, &treatyv1.CancelSagaRequest{
		Name: name, Decision: &treatyv1.Decision{Actor: c.name, Reason: "to see what happens"},
	}, grpc.WaitForReady(true))
	switch status.Code(err) {
	case codes.OK:
		c.tally.cancelled.Add(1)
	case codes.FailedPrecondition, codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
	case codes.NotFound:
		if c.disaster == nil {
			c.t.Errorf("%s: canceling %s: %v", c.name, name, err)
		}
	default:
		c.t.Errorf("%s: canceling %s: %v", c.name, name, err)
	}
}

func (c *client) acknowledged(r request, name string) {
	if before := c.starts[r.id]; before != nil {
		if before.Saga != name {
			c.t.Errorf("%s: request id %s was acknowledged as %s and as %s", c.name, r.id, before.Saga, name)
		}
		return
	}
	c.starts[r.id] = &audit.Start{Definition: r.definition, RequestID: r.id, Saga: name}
}
