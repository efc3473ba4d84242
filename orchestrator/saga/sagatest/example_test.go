package sagatest_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/orchestrator/saga/sagatest"
)

// t is the test that runs an example.
var t *testing.T

// TestExamples runs the examples, each as the body of a test.
func TestExamples(t *testing.T) {
	for name, example := range map[string]func(){
		"Run": ExampleRun, "Explore": ExampleExplore, "Replay": ExampleReplay, "Stub": ExampleStub,
		"Complete": ExampleWorld_Complete, "Publish": ExampleWorld_Publish, "Crash": ExampleWorld_Crash,
	} {
		t.Run(name, func(t *testing.T) {
			setT(t)
			example()
		})
	}
}

func setT(test *testing.T) { t = test } //nolint:thelper // it sets t

// A participant refuses the second command, and the first one is undone.
func ExampleRun() {
	sagatest.Run(t, register, func(w *sagatest.World) {
		w.Script(cardv1.CardService_ChangePostalAddress_FullMethodName, sagatest.Reject(&cardv1.AddressNotServed{}))
		s := w.Start(changeAddress, moving())
		s.WantRejection(&cardv1.AddressNotServed{})
		s.WantCommands("action ChangeAddress", "action ChangePostalAddress", "compensation RestoreAddress")
	})
}

// All failures of a saga, after each of which two participants must agree. The failure matrix is kept in a file.
func ExampleExplore() {
	participants := func(w *sagatest.World) (agree func(*sagatest.Saga) error) {
		var home, postal atomic.Int32 // how often each service has moved the customer
		sagatest.Stub(w, customerv1.CustomerService_ChangeAddress_FullMethodName,
			func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
				home.Add(1)
				return &customerv1.AddressChanged{AddressRevision: 2}, nil
			})
		sagatest.Stub(w, customerv1.CustomerService_RestoreAddress_FullMethodName,
			func(context.Context, *customerv1.RestoreAddressRequest) (*customerv1.AddressRestored, error) {
				home.Add(-1)
				return &customerv1.AddressRestored{}, nil
			})
		sagatest.Stub(w, cardv1.CardService_ChangePostalAddress_FullMethodName,
			func(context.Context, *cardv1.ChangePostalAddressRequest) (*cardv1.PostalAddressChanged, error) {
				postal.Add(1)
				return &cardv1.PostalAddressChanged{}, nil
			})
		sagatest.Stub(w, cardv1.CardService_RestorePostalAddress_FullMethodName,
			func(context.Context, *cardv1.RestorePostalAddressRequest) (*cardv1.PostalAddressRestored, error) {
				postal.Add(-1)
				return &cardv1.PostalAddressRestored{}, nil
			})
		return func(*sagatest.Saga) error {
			if home.Load() != postal.Load() {
				return fmt.Errorf("moved %d times at home, and %d times by post", home.Load(), postal.Load())
			}
			return nil
		}
	}
	sagatest.Explore(t, register, changeAddress, moving(), sagatest.Setup(participants),
		sagatest.Golden("testdata/ChangeAddress.matrix.md"))
}

// A run that Explore has printed: a reply is lost, and the orchestrator is killed after its second turn.
func ExampleReplay() {
	sagatest.Replay(t, register, changeAddress, moving(), `
		action 1: lose reply
		turn 2: crash after
	`)
}

// A participant that knows the customer's next revision.
func ExampleStub() {
	sagatest.Run(t, register, func(w *sagatest.World) {
		sagatest.Stub(w, customerv1.CustomerService_ChangeAddress_FullMethodName,
			func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
				return &customerv1.AddressChanged{AddressRevision: 7}, nil
			})
		s := w.Start(changeAddress, moving())
		s.WantReply(&customerv1.AddressAgreed{Customer: "customers/ada", AddressRevision: 7})
	})
}

// A clerk inspects a passport for a day. The participant completes the command then.
func ExampleWorld_Complete() {
	sagatest.Run(t, registerVerifications, func(w *sagatest.World) {
		w.Script(inspectPassport, sagatest.Accept(time.Hour))
		s := w.Start(verifyApplicant, verifying())
		w.Advance(24 * time.Hour)
		s.WantWaits("InspectPassport")
		w.Complete(inspectPassport, sagatest.Reject(&identityv1.PassportNotGenuine{}))
		s.WantRejection(&identityv1.PassportNotGenuine{})
	})
}

// An event arrives an hour before the saga gives up.
func ExampleWorld_Publish() {
	sagatest.Run(t, registerVerifications, func(w *sagatest.World) {
		s := w.Start(verifyApplicant, verifying())
		w.Advance(71 * time.Hour)
		s.WantWaits("ApplicantVerified of applicants/a or 72h")
		w.Publish(&identityv1.ApplicantVerified{Applicant: "applicants/a"})
		if _, err := s.Result(); err != nil {
			t.Error(err)
		}
	})
}

// The orchestrator is killed while the saga sleeps.
func ExampleWorld_Crash() {
	sagatest.Run(t, register, func(w *sagatest.World) {
		s := w.Start(changeAddress, moving())
		w.Advance(30 * 24 * time.Hour)
		w.Crash()
		s.WantWaits("365d")
		s.WantCommands("action ChangeAddress")
		s.WantReply(&customerv1.AddressAgreed{Customer: "customers/ada", AddressRevision: 1})
	})
}
