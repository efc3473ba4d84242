package saga_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	"github.com/treatyhq/treaty/gen/acme/privacy/v1/privacyv1saga"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// moveBoth changes a customer's address and the address to which the customer's cards are posted, in parallel.
func moveBoth(ctx saga.Context, customer string, home *customerv1.Address, postal *cardv1.Postal) error {
	return saga.All(ctx,
		func(ctx saga.Context) error {
			change := &customerv1.ChangeAddressRequest{Customer: customer, Address: home}
			_, err := customerv1saga.ChangeAddress(ctx, change)
			return err
		},
		func(ctx saga.Context) error {
			change := &cardv1.ChangePostalAddressRequest{Customer: customer, Postal: postal}
			_, err := cardv1saga.ChangePostalAddress(ctx, change)
			return err
		})
}

// moveHousehold changes the address of several customers, two at a time.
func moveHousehold(ctx saga.Context, customers []string, home *customerv1.Address) error {
	return saga.Each(ctx, customers, func(ctx saga.Context, customer string) error {
		_, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{Customer: customer, Address: home})
		return err
	}, saga.AtMost(2))
}

// moveIfAllCan moves all customers of a household within an hour, or none. It reports whether they moved.
func moveIfAllCan(ctx saga.Context, customers []string, home *customerv1.Address) (moved bool, err error) {
	err = saga.Try(ctx, func(ctx saga.Context) error {
		return moveHousehold(ctx, customers, home)
	}, saga.Within(time.Hour))
	if status.Code(err) == codes.FailedPrecondition || errors.Is(err, saga.ErrDeadline) {
		return false, nil // the customers that had moved have moved back, and the saga continues
	}
	return err == nil, err
}

// moveLater changes an address on the day of the move, but not before two weeks have passed.
func moveLater(ctx saga.Context, day time.Time, move *customerv1.ChangeAddressRequest) error {
	saga.Sleep(ctx, 14*24*time.Hour)
	saga.SleepUntil(ctx, day)
	_, err := customerv1saga.ChangeAddress(ctx, move)
	return err
}

// hasMoved waits up to a year for a customer to move.
func hasMoved(ctx saga.Context, customer string) (bool, error) {
	_, err := customerv1saga.AwaitAddressChanged(ctx, customer, saga.Within(365*24*time.Hour))
	if errors.Is(err, saga.ErrTimeout) {
		return false, nil
	}
	return err == nil, err
}

// registerAgrees waits for the identity register to decide about an applicant: one of two events, or neither within two
// days.
func registerAgrees(ctx saga.Context, applicant string) error {
	verified := identityv1saga.NextApplicantVerified(applicant)
	turnedDown := identityv1saga.NextApplicantTurnedDown(applicant)
	switch saga.First(ctx, verified, turnedDown, saga.After(48*time.Hour)) {
	case verified:
		return nil
	case turnedDown:
		reason := turnedDown.Message().GetReason()
		return status.Errorf(codes.FailedPrecondition, "the register turned the applicant down: %s", reason)
	default:
		return status.Error(codes.DeadlineExceeded, "no decision of the register within two days")
	}
}

// verifyBoth verifies two people. Each verification is a child saga.
func verifyBoth(ctx saga.Context, one, other *identityv1.VerifyApplicantRequest) error {
	both := []*identityv1.VerifyApplicantRequest{one, other}
	return saga.Each(ctx, both, func(ctx saga.Context, in *identityv1.VerifyApplicantRequest) error {
		_, err := identityv1saga.VerifyApplicant(ctx, in)
		return err
	})
}

// forget deletes a customer's data in all services. It returns the participants that were asked.
func forget(ctx saga.Context, customer string) (asked []string, err error) {
	answers, err := privacyv1saga.DeleteUserData(ctx, &privacyv1.DeleteUserDataRequest{Customer: customer})
	if err != nil {
		return nil, err
	}
	for _, answer := range answers {
		asked = append(asked, answer.Participant)
	}
	return asked, nil
}

// lookFirst changes an address. Since version 1 of the change it first checks that the customer exists.
func lookFirst(ctx saga.Context, move *customerv1.ChangeAddressRequest) error {
	if saga.Version(ctx, "look first", 1) >= 1 {
		get := &customerv1.GetCustomerRequest{Name: move.GetCustomer()}
		if _, err := customerv1saga.GetCustomer(ctx, get); err != nil {
			return err
		}
	}
	_, err := customerv1saga.ChangeAddress(ctx, move)
	return err
}

// yearly looks at a customer once a year. Each year is a round of the saga.
func yearly(ctx saga.Context, in *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
	saga.Sleep(ctx, 365*24*time.Hour)
	customer, err := customerv1saga.GetCustomer(ctx, &customerv1.GetCustomerRequest{Name: in.GetCustomer()})
	if err != nil {
		return nil, err
	}
	saga.SetProgress(ctx, customer)
	return nil, saga.Restart(ctx, in)
}

// TestLanguageExamples runs the examples of the documentation, with a crash after each step.
func TestLanguageExamples(t *testing.T) {
	day := 24 * time.Hour
	people := []string{"customers/ada", "customers/bob"}
	for name, c := range map[string]struct {
		code    func(ctx saga.Context) error
		happens func(j *journal)
	}{
		"All": {
			func(ctx saga.Context) error { return moveBoth(ctx, "customers/ada", nil, nil) },
			func(j *journal) {
				j.want(running, "1.1.1, 1.2.1")
				j.end("1.2.1", machine.Done)
				j.end("1.1.1", machine.Done)
				j.want(succeeded, "")
			},
		},
		"Each": {
			func(ctx saga.Context) error { return moveHousehold(ctx, append(people, "customers/cyd"), nil) },
			func(j *journal) {
				j.want(running, "1.1.1, 1.2.1")
				j.end("1.2.1", machine.Done)
				j.want(running, "1.1.1, 1.3.1")
				j.end("1.1.1", machine.Done)
				j.end("1.3.1", machine.Done)
				j.want(succeeded, "")
			},
		},
		"Try, whose deadline passes": {
			func(ctx saga.Context) error {
				moved, err := moveIfAllCan(ctx, people, nil)
				if moved {
					return errors.New("nobody moved")
				}
				return err
			},
			func(j *journal) {
				j.end("1.1.1.1.1", machine.Done)
				j.at(time.Hour)
				j.want(running, "1.1.1.2.1")
				j.end("1.1.1.2.1", machine.Done)
				j.want(running, "compensate 1.1.1.1.1, compensate 1.1.1.2.1")
				j.compensated("1.1.1.2.1")
				j.compensated("1.1.1.1.1")
				j.want(succeeded, "")
			},
		},
		"Sleep": {
			func(ctx saga.Context) error {
				return moveLater(ctx, began.Add(20*day), &customerv1.ChangeAddressRequest{})
			},
			func(j *journal) {
				j.at(14 * day)
				j.want(running, "")
				j.at(20 * day)
				j.want(running, "3")
				j.end("3", machine.Done)
				j.want(succeeded, "")
			},
		},
		"Await": {
			func(ctx saga.Context) error {
				moved, err := hasMoved(ctx, "customers/ada")
				if !moved {
					return errors.New("the customer moved")
				}
				return err
			},
			func(j *journal) {
				j.apply(arrived(7, "customers/ada"))
				j.want(succeeded, "")
			},
		},
		"Await, which times out": {
			func(ctx saga.Context) error {
				moved, err := hasMoved(ctx, "customers/ada")
				if moved {
					return errors.New("the customer didn't move")
				}
				return err
			},
			func(j *journal) {
				j.at(365 * day)
				j.want(succeeded, "")
			},
		},
		"First": {
			func(ctx saga.Context) error { return registerAgrees(ctx, "applicants/1") },
			func(j *journal) {
				j.at(48 * time.Hour)
				failure := j.machine.Saga().CompensationDecided.GetFailure()
				if !strings.Contains(failure.GetMessage(), "no decision of the register") {
					t.Errorf("the saga failed with %v", failure)
				}
			},
		},
		"a child": {
			func(ctx saga.Context) error {
				return verifyBoth(ctx, &identityv1.VerifyApplicantRequest{}, &identityv1.VerifyApplicantRequest{})
			},
			func(j *journal) {
				j.end("1.2.1", machine.Done)
				j.end("1.1.1", machine.Done)
				j.want(succeeded, "")
			},
		},
		"Version": {
			func(ctx saga.Context) error { return lookFirst(ctx, &customerv1.ChangeAddressRequest{}) },
			func(j *journal) {
				j.end("1", machine.Done)
				j.end("2", machine.Done)
				j.want(succeeded, "")
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.happens(language(t, func(ctx saga.Context, _ *request) (*agreed, error) {
				return &agreed{}, c.code(ctx)
			}))
		})
	}
}

func TestYearlyRestarts(t *testing.T) {
	j := language(t, yearly)
	j.at(365 * 24 * time.Hour)
	j.want(running, "2")
	j.apply(machine.CommandEnded{Step: "2", Direction: machine.Action, Outcome: machine.Done, Reply: []byte{}})
	j.turns = nil // the next round needs no earlier turn
	j.apply(machine.Wake{})
	j.want(running, "")
	if waits := j.machine.Saga().Waits; len(waits) != 1 || waits[0].Scheduled.GetWait() != "r2.1" {
		t.Errorf("the second round waits for %v, want r2.1", waits)
	}
}

func TestForgetAsksEveryParticipant(t *testing.T) {
	var asked []string
	var registrar only
	saga.Register(&registrar, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
		func(ctx saga.Context, in *request) (_ *agreed, err error) {
			asked, err = forget(ctx, in.GetCustomer())
			return &agreed{}, err
		})
	command := func(method string) (*contract.Command, bool) {
		return &contract.Command{
			CallConfig: contract.CallConfig{Method: method},
			Kind:       treatyv1.CommandKind_COMMAND_KIND_RETRIABLE,
			Broadcast:  true,
		}, true
	}
	m := machine.New(machine.Config{ID: "x", Code: registrar.code, Command: command})
	t.Cleanup(m.Close)
	done := func(step string) machine.Input {
		return machine.CommandEnded{Step: step, Direction: machine.Action, Outcome: machine.Done, Reply: []byte{}}
	}
	for i, in := range []machine.Input{
		machine.Start{Started: &treatyv1.SagaStarted{Definition: "Test"}},
		machine.Discovered{Path: "1", Participants: []string{"a.A", "b.B"}},
		done("1.2.1"), done("1.1.1"),
	} {
		if _, err := m.Apply(began.Add(time.Duration(i)*time.Minute), in); err != nil {
			t.Fatal(err)
		}
	}
	if m.Saga().State != succeeded || !slices.Equal(asked, []string{"a.A", "b.B"}) {
		t.Errorf("the saga is %v, and %v were asked", m.Saga().State, asked)
	}
}
