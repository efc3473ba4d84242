package sagatest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	"github.com/treatyhq/treaty/gen/acme/credit/v1/creditv1saga"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

type (
	request = customerv1.ChangeAddressSagaRequest
	agreed  = customerv1.AddressAgreed
)

// move is the code of a saga that changes an address.
type move func(saga.Context, *request) (*agreed, error)

// ChangeAddress runs the code.
func (m move) ChangeAddress(ctx saga.Context, in *request) (*agreed, error) { return m(ctx, in) }

func (m move) register(r saga.Registrar) { customerv1saga.RegisterCustomerSagas(r, m) }

const moves = customerv1.CustomerSagas_ChangeAddress_FullMethodName

func toMove() *request {
	return &request{
		RequestId: "r", Customer: "customers/ada", Address: &customerv1.Address{City: "Delft"},
	}
}

// changeIn changes the address of a customer to a city.
func changeIn(ctx saga.Context, customer, city string) error {
	_, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{
		Customer: customer, Address: &customerv1.Address{City: city},
	})
	return err
}

// changePostal changes the postal address of a customer's cards.
func changePostal(ctx saga.Context, customer string) error {
	_, err := cardv1saga.ChangePostalAddress(ctx, &cardv1.ChangePostalAddressRequest{Customer: customer})
	return err
}

// moveAll is a saga without a mistake.
func moveAll(ctx saga.Context, in *request) (*agreed, error) {
	if err := changeIn(ctx, in.GetCustomer(), "Delft"); err != nil {
		return nil, err
	}
	if err := changePostal(ctx, in.GetCustomer()); err != nil {
		return nil, err
	}
	return &agreed{}, nil
}

// addresses is the state of two participants: how often each moved a customer.
type addresses struct {
	mu           sync.Mutex
	moved, cards int
}

func (a *addresses) add(to *int, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*to += n
}

// agree compares both participants.
func (a *addresses) agree(*Saga) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.moved != a.cards || a.moved < 0 || a.moved > 1 {
		return fmt.Errorf("the customer service moved ada %d times, and the card service %d times", a.moved, a.cards)
	}
	return nil
}

// serve makes stubs that change the state. The function restore replaces that of RestoreAddress.
func (a *addresses) serve(
	w *World, restore func(context.Context, *customerv1.RestoreAddressRequest) (*customerv1.AddressRestored, error),
) {
	Stub(w, customerv1.CustomerService_ChangeAddress_FullMethodName,
		func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
			a.add(&a.moved, 1)
			return &customerv1.AddressChanged{AddressRevision: 7}, nil
		})
	Stub(w, customerv1.CustomerService_RestoreAddress_FullMethodName, restore)
	Stub(w, cardv1.CardService_ChangePostalAddress_FullMethodName,
		func(context.Context, *cardv1.ChangePostalAddressRequest) (*cardv1.PostalAddressChanged, error) {
			a.add(&a.cards, 1)
			return &cardv1.PostalAddressChanged{}, nil
		})
	Stub(w, cardv1.CardService_RestorePostalAddress_FullMethodName,
		func(context.Context, *cardv1.RestorePostalAddressRequest) (*cardv1.PostalAddressRestored, error) {
			a.add(&a.cards, -1)
			return &cardv1.PostalAddressRestored{}, nil
		})
}

// restores is an undo without a mistake.
func (a *addresses) restores(
	context.Context, *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	a.add(&a.moved, -1)
	return &customerv1.AddressRestored{}, nil
}

// twoServices makes participants with state.
func twoServices(w *World) func(*Saga) error {
	a := new(addresses)
	a.serve(w, a.restores)
	return a.agree
}

// undoNeedsReply makes an undo that finds what it undoes by the action's reply alone.
func undoNeedsReply(w *World) func(*Saga) error {
	a := new(addresses)
	a.serve(w, func(
		ctx context.Context, in *customerv1.RestoreAddressRequest,
	) (*customerv1.AddressRestored, error) {
		if in.GetReply().GetAddressRevision() != 7 {
			return &customerv1.AddressRestored{}, nil // no such revision
		}
		return a.restores(ctx, in)
	})
	return a.agree
}

// undoDoesNothing makes an undo that answers and does nothing.
func undoDoesNothing(w *World) func(*Saga) error {
	a := new(addresses)
	a.serve(w, func(context.Context, *customerv1.RestoreAddressRequest) (*customerv1.AddressRestored, error) {
		return &customerv1.AddressRestored{}, nil
	})
	return a.agree
}

// undoTwice makes an undo that fails after it has worked, and then works again.
func undoTwice(w *World) func(*Saga) error {
	a := new(addresses)
	calls := 0
	a.serve(w, func(
		ctx context.Context, in *customerv1.RestoreAddressRequest,
	) (*customerv1.AddressRestored, error) {
		out, err := a.restores(ctx, in)
		if calls++; calls == 1 {
			return nil, status.Error(codes.Unavailable, "the connection to the database broke")
		}
		return out, err
	})
	return a.agree
}

// knownCustomers makes participants of which the credit service must know only customers that exist.
func knownCustomers(w *World) func(*Saga) error {
	var stranger error
	Stub(w, creditv1.CreditService_CheckCredit_FullMethodName,
		func(_ context.Context, in *creditv1.CheckCreditRequest) (*creditv1.CreditChecked, error) {
			if in.GetCustomer() == "" {
				stranger = errors.New("CheckCredit was called for no customer")
			}
			return &creditv1.CreditChecked{}, nil
		})
	return func(*Saga) error { return stranger }
}

// verifying publishes an event when an address changes.
func verifying(w *World) func(*Saga) error {
	Stub(w, customerv1.CustomerService_ChangeAddress_FullMethodName,
		func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
			w.Publish(&identityv1.ApplicantVerified{Applicant: "a"})
			return &customerv1.AddressChanged{}, nil
		})
	return nil
}

// remind waits for an event three times, with a mistake the third time.
func remind(ctx saga.Context, in *request) (*agreed, error) {
	if err := changeIn(ctx, in.GetCustomer(), "Delft"); err != nil {
		return nil, err
	}
	for n := range 3 {
		verified, silence := saga.NextEvent[*identityv1.ApplicantVerified]("a"), saga.After(time.Hour)
		if saga.First(ctx, verified, silence) == verified {
			if n == 2 {
				panic("nobody answers the third time")
			}
			return new(agreed), nil
		}
	}
	return nil, errors.New("no answer")
}

// sagaMistake is code with a mistake, and what the exploration says about it.
type sagaMistake struct {
	name  string
	code  func() move // of each exploration
	setup func(*World) func(*Saga) error
	want  []string // in the failure's text; the first one is in the problem itself
}

// of returns code that needs no state.
func of(code move) func() move { return func() move { return code } }

// started counts the sagas that were started: a mistake.
var started int //nolint:gochecknoglobals // the mistake that is found

func mistakesInSagas() []sagaMistake {
	const notDeterministic = "the code of acme.customer.v1.CustomerSagas/ChangeAddress isn't deterministic"
	done := new(agreed)
	return []sagaMistake{
		{
			name: "a forgotten error check",
			code: of(func(ctx saga.Context, _ *request) (*agreed, error) {
				customer, _ := customerv1saga.CreateCustomer(ctx, &customerv1.CreateCustomerRequest{})
				_, err := creditv1saga.CheckCredit(ctx, &creditv1.CheckCreditRequest{Customer: customer.GetCustomer()})
				return done, err
			}),
			setup: knownCustomers,
			want: []string{"CheckCredit was called for no customer", "action 1: lose all requests",
				"action CreateCustomer, step 1 of"},
		},
		{
			name: "a swallowed refusal",
			code: of(func(ctx saga.Context, in *request) (*agreed, error) {
				if err := changeIn(ctx, in.GetCustomer(), "Delft"); err != nil {
					return nil, err
				}
				if err := changePostal(ctx, in.GetCustomer()); err != nil {
					saga.Logger(ctx).Warn("the postal address didn't change")
				}
				return done, nil
			}),
			setup: twoServices,
			want: []string{"the customer service moved ada 1 times, and the card service 0 times",
				"action 2: reject acme.card.v1.AddressNotServed", "action ChangePostalAddress, step 2 of"},
		},
		{
			name: "a pivot before a check",
			code: of(func(ctx saga.Context, _ *request) (*agreed, error) {
				if _, err := cardv1saga.IssueCard(ctx, &cardv1.IssueCardRequest{}); err != nil {
					return nil, err
				}
				_, err := creditv1saga.CheckCredit(ctx, &creditv1.CheckCreditRequest{})
				return done, err
			}),
			want: []string{"the saga is suspended", "acme.credit.v1.CreditService/CheckCredit", "step 2"},
		},
		{
			name: "time.Now",
			code: of(func(ctx saga.Context, in *request) (*agreed, error) {
				return done, changeIn(ctx, in.GetCustomer(), time.Now().String())
			}),
			want: []string{notDeterministic, "at step 1", "time.Now"},
		},
		{
			name: "package rand",
			code: of(func(ctx saga.Context, in *request) (*agreed, error) {
				return done, changeIn(ctx, in.GetCustomer(), strconv.Itoa(rand.Int()))
			}),
			want: []string{notDeterministic, "at step 1", "rand"},
		},
		{
			name: "the order of a map",
			code: of(func(ctx saga.Context, _ *request) (*agreed, error) {
				for customer := range map[string]bool{"a": true, "b": true, "c": true, "d": true, "e": true} {
					if err := changeIn(ctx, customer, "Delft"); err != nil {
						return nil, err
					}
				}
				return done, nil
			}),
			want: []string{notDeterministic, "at step ", "the order of a map"},
		},
		{
			name: "a goroutine that sends a command",
			code: of(func(ctx saga.Context, in *request) (*agreed, error) {
				moved := make(chan error, 1)
				go func() { moved <- changeIn(ctx, in.GetCustomer(), "Delft") }()
				return done, <-moved
			}),
			want: []string{"a Context was used on another goroutine", "mistakes_test.go"},
		},
		{
			name: "a global counter",
			code: of(func(ctx saga.Context, in *request) (*agreed, error) {
				started++
				return done, changeIn(ctx, in.GetCustomer(), strconv.Itoa(started))
			}),
			want: []string{notDeterministic, "at step 1", "variables outside of the saga"},
		},
		{
			name: "a captured variable that another run changed",
			code: func() move {
				seen := make(map[string]bool)
				return func(ctx saga.Context, in *request) (*agreed, error) {
					if !seen[in.GetCustomer()] {
						seen[in.GetCustomer()] = true
						if err := changeIn(ctx, in.GetCustomer(), "Delft"); err != nil {
							return nil, err
						}
					}
					return done, changePostal(ctx, in.GetCustomer())
				}
			},
			want: []string{notDeterministic, "at step 1", "variables outside of the saga"},
		},
		{
			name: "an undo that needs a reply", code: of(moveAll), setup: undoNeedsReply,
			want: []string{"the customer service moved ada 1 times, and the card service 0 times",
				"action 1: lose all replies", "compensation RestoreAddress, step 1 of"},
		},
		{
			name: "an undo that does nothing", code: of(moveAll), setup: undoDoesNothing,
			want: []string{"the customer service moved ada 1 times, and the card service 0 times",
				"compensation RestoreAddress, step 1 of"},
		},
		{
			name: "an undo that isn't idempotent", code: of(moveAll), setup: undoTwice,
			want: []string{"the customer service moved ada -1 times, and the card service 0 times",
				"compensation RestoreAddress, step 1 of"},
		},
		{
			name: "an event that never comes",
			code: of(func(ctx saga.Context, in *request) (*agreed, error) {
				_, err := saga.Await(ctx, saga.NextEvent[*customerv1.AddressChanged](in.GetCustomer()))
				return done, err
			}),
			want: []string{"still hasn't ended", "acme.customer.v1.AddressChanged", "customers/ada"},
		},
		{
			name: "a panic on an event that comes after two reminders", code: of(remind), setup: verifying,
			want: []string{"the saga is suspended", "nobody answers the third time", "event 1: arrive after timer 2"},
		},
		{
			name: "a panic on an event that comes just in time",
			code: of(func(ctx saga.Context, in *request) (*agreed, error) {
				if err := changeIn(ctx, in.GetCustomer(), "Delft"); err != nil {
					return nil, err
				}
				began := saga.Now(ctx)
				verified, silence := saga.NextEvent[*identityv1.ApplicantVerified]("a"), saga.After(time.Hour)
				if saga.First(ctx, verified, silence) == verified && saga.Now(ctx).Sub(began) > 50*time.Minute {
					panic("who takes that long")
				}
				return done, nil
			}),
			setup: verifying,
			want:  []string{"the saga is suspended", "who takes that long", "event 1: arrive before timer 1"},
		},
		{
			name: "a panic on a reply that wasn't expected",
			code: of(func(ctx saga.Context, in *request) (*agreed, error) {
				err := changePostal(ctx, in.GetCustomer())
				if _, not := saga.Rejection[*cardv1.AddressNotServed](err); err != nil && !not {
					panic("no other refusal was expected")
				}
				return done, err
			}),
			want: []string{"the saga is suspended", "no other refusal was expected", "mistakes_test.go",
				"action 1: refuse"},
		},
	}
}

// TestFindsMistakesInSagas explores sagas with a mistake each. The failure names the place, and its script repeats it.
func TestFindsMistakesInSagas(t *testing.T) {
	for _, test := range mistakesInSagas() {
		t.Run(test.name, func(t *testing.T) {
			var options []Option
			if test.setup != nil {
				options = append(options, Setup(test.setup))
			}
			explore := newExploration(t, test.code().register, moves, toMove(), options)
			failures := explore.explore()
			found := find(failures, test.want)
			if found == nil {
				t.Fatalf("no failure has all of %q:\n%s", test.want, textsOf(failures))
			}
			t.Log(found.text)
			faults, err := parseScript(formatScript(found.faults))
			if err != nil {
				t.Fatal(err)
			}
			if !failsAgain(t, test, options, faults) {
				t.Errorf("the script %q doesn't lead to %q again", formatScript(faults), test.want[0])
			}
		})
	}
}

// failsAgain reports whether a script leads to a mistake's first text. A mistake that depends on chance may need a few
// runs.
func failsAgain(t *testing.T, test sagaMistake, options []Option, faults []fault) bool {
	t.Helper()
	for range 30 {
		out := newExploration(t, test.code().register, moves, toMove(), options).run(faults)
		if strings.Contains(strings.Join(out.wrong(), "\n"), test.want[0]) {
			return true
		}
	}
	return false
}

// find returns the first failure whose text has all of the parts.
func find(failures []failure, parts []string) *failure {
	for i, f := range failures {
		missing := false
		for _, part := range parts {
			missing = missing || !strings.Contains(f.text, part)
		}
		if !missing {
			return &failures[i]
		}
	}
	return nil
}

func textsOf(failures []failure) string {
	var texts []string
	for _, f := range failures {
		texts = append(texts, f.text)
	}
	return strings.Join(texts, "\n")
}

// TestFindsNothingWithoutMistake explores the saga and the participants in which the mistakes were made.
func TestFindsNothingWithoutMistake(t *testing.T) {
	e := newExploration(t, move(moveAll).register, moves, toMove(), []Option{Setup(twoServices)})
	if failures := e.explore(); len(failures) > 0 {
		t.Error(textsOf(failures))
	}
}

// TestPageShowsFailure compares the failure on the page about testing with that of a swallowed refusal.
func TestPageShowsFailure(t *testing.T) {
	page, err := os.ReadFile("../../../docs/testing-sagas.md")
	if err != nil {
		t.Fatal(err)
	}
	mistakes := mistakesInSagas()
	named := func(m sagaMistake) bool { return m.name == "a swallowed refusal" }
	swallowed := mistakes[slices.IndexFunc(mistakes, named)]
	e := newExploration(t, swallowed.code().register, moves, toMove(), []Option{Setup(swallowed.setup), SingleFaults()})
	found := find(e.explore(), swallowed.want)
	if found == nil {
		t.Fatal("the refusal wasn't found")
	}
	if text := strings.ReplaceAll(found.text, "\t", "    "); !strings.Contains(string(page), text) {
		t.Errorf("the page doesn't show\n%s", text)
	}
}
