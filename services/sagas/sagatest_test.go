package main

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

const (
	changeAddress       = customerv1.CustomerSagas_ChangeAddress_FullMethodName
	changePostalAddress = cardv1.CardService_ChangePostalAddress_FullMethodName
	registerApplicant   = identityv1.IdentityService_RegisterApplicant_FullMethodName
	inspectPassport     = identityv1.IdentityService_InspectPassport_FullMethodName
)

// TestMoveIsUndone refuses the second command of a saga.
func TestMoveIsUndone(t *testing.T) {
	sagatest.Run(t, register, func(w *sagatest.World) {
		w.Script(changePostalAddress, sagatest.Reject(&cardv1.AddressNotServed{}))
		s := w.Start(changeAddress, moving())
		s.WantRejection(&cardv1.AddressNotServed{})
		s.WantCommands("action ChangeAddress", "action ChangePostalAddress", "compensation RestoreAddress")
	})
}

// TestVerificationWaits leads a saga through three days: a command that is accepted and completed later, an event, and
// the time until which the saga awaits it.
func TestVerificationWaits(t *testing.T) {
	sagatest.Run(t, register, func(w *sagatest.World) {
		sagatest.Stub(w, registerApplicant, func(
			context.Context, *identityv1.RegisterApplicantRequest,
		) (*identityv1.ApplicantRegistered, error) {
			return &identityv1.ApplicantRegistered{Applicant: "applicants/ada"}, nil
		})
		w.Script(inspectPassport, sagatest.Accept(time.Hour)) // by a clerk
		s := w.Start(identityv1.IdentitySagas_VerifyApplicant_FullMethodName,
			&identityv1.VerifyApplicantRequest{Customer: "customers/ada"})
		w.Advance(24 * time.Hour)
		s.WantWaits("InspectPassport")
		w.Complete(inspectPassport, sagatest.Answer{})
		w.Advance(71 * time.Hour)
		s.WantWaits("ApplicantVerified of applicants/ada or ApplicantTurnedDown of applicants/ada or 72h")
		w.Publish(&identityv1.ApplicantVerified{Applicant: "applicants/ada"})
		if _, err := s.Result(); err != nil {
			t.Error(err)
		}
	})
}

// twoAddresses makes participants that count how often the customer has moved. After each run, they must agree.
func twoAddresses(w *sagatest.World) (agree func(*sagatest.Saga) error) {
	var home, postal atomic.Int32
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
	sagatest.Stub(w, changePostalAddress,
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
			return fmt.Errorf("the customer service moved ada %d times, and the card service %d times",
				home.Load(), postal.Load())
		}
		return nil
	}
}

// TestExploreChangeAddress lets the saga fail in every way. Each run must leave both addresses changed, or none.
func TestExploreChangeAddress(t *testing.T) {
	t.Parallel()
	sagatest.Explore(t, register, changeAddress, moving(),
		sagatest.Setup(twoAddresses),
		sagatest.Golden("testdata/ChangeAddress.matrix.md"))
}

// TestReplayLostReply repeats a run of the exploration: the reply of the first command is lost, and the orchestrator is
// killed just after it has stored that the second one will be sent.
func TestReplayLostReply(t *testing.T) {
	sagatest.Replay(t, register, changeAddress, moving(), `
		action 1: lose reply
		turn 2: crash after
	`, sagatest.Setup(twoAddresses))
}
