package sagatest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/saga"
	"github.com/treatyhq/treaty/orchestrator/saga/sagatest"
)

const changeAddress = customerv1.CustomerSagas_ChangeAddress_FullMethodName

// sagas changes an address like the example company, and sleeps for a year in between.
type sagas struct{}

func (sagas) ChangeAddress(
	ctx saga.Context, in *customerv1.ChangeAddressSagaRequest,
) (*customerv1.AddressAgreed, error) {
	changed, err := customerv1saga.ChangeAddress(ctx, &customerv1.ChangeAddressRequest{
		Customer: in.GetCustomer(), Address: in.GetAddress(),
	})
	if err != nil {
		return nil, err
	}
	saga.Sleep(ctx, 365*24*time.Hour)
	err = saga.Call(ctx, cardv1.CardService_ChangePostalAddress_FullMethodName, &cardv1.ChangePostalAddressRequest{
		Customer: in.GetCustomer(), AddressRevision: changed.GetAddressRevision(),
	}, new(cardv1.PostalAddressChanged))
	if err != nil {
		return nil, err
	}
	return &customerv1.AddressAgreed{Customer: in.GetCustomer(), AddressRevision: changed.GetAddressRevision()}, nil
}

func register(r saga.Registrar) { customerv1saga.RegisterCustomerSagas(r, sagas{}) }

func moving() *customerv1.ChangeAddressSagaRequest {
	return &customerv1.ChangeAddressSagaRequest{
		RequestId: "r", Customer: "customers/ada", Address: &customerv1.Address{City: "Delft"},
	}
}

func TestSucceeds(t *testing.T) {
	sagatest.Run(t, register, func(w *sagatest.World) {
		began := time.Now()
		s := w.Start(changeAddress, moving())
		s.WantReply(&customerv1.AddressAgreed{Customer: "customers/ada", AddressRevision: 1})
		s.WantCommands("action ChangeAddress", "action ChangePostalAddress")
		if took := time.Since(began); took < 365*24*time.Hour || took > 366*24*time.Hour {
			t.Errorf("a saga that sleeps for a year took %s", took)
		}
		want := &customerv1.ChangeAddressRequest{Customer: "customers/ada", Address: &customerv1.Address{City: "Delft"}}
		if diff := cmp.Diff(want, s.Commands()[0].Request, protocmp.Transform()); diff != "" {
			t.Errorf("the first request (-want +got):\n%s", diff)
		}
	})
}

func TestRejected(t *testing.T) {
	sagatest.Run(t, register, func(w *sagatest.World) {
		w.Script(cardv1.CardService_ChangePostalAddress_FullMethodName, sagatest.Reject(&cardv1.AddressNotServed{}))
		s := w.Start(changeAddress, moving())
		s.WantRejection(&cardv1.AddressNotServed{})
		s.WantCommands("action ChangeAddress", "action ChangePostalAddress", "compensation RestoreAddress")
		undo, ok := s.Commands()[2].Request.(*customerv1.RestoreAddressRequest)
		if !ok || undo.GetReply().GetAddressRevision() != 1 || undo.GetAction().GetAddress().GetCity() != "Delft" {
			t.Errorf("the compensation's request is %v", s.Commands()[2].Request)
		}
	})
}

// TestLosses loses a request and a reply. The command is executed once.
func TestLosses(t *testing.T) {
	sagatest.Run(t, register, func(w *sagatest.World) {
		executed := 0
		sagatest.Stub(w, customerv1.CustomerService_ChangeAddress_FullMethodName,
			func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
				executed++
				return &customerv1.AddressChanged{AddressRevision: 7}, nil
			})
		w.Script(customerv1.CustomerService_ChangeAddress_FullMethodName, sagatest.LoseRequest(), sagatest.LoseReply(),
			sagatest.LoseReply())
		s := w.Start(changeAddress, moving())
		s.WantReply(&customerv1.AddressAgreed{Customer: "customers/ada", AddressRevision: 7})
		if got := s.Commands()[0].Attempts; executed != 1 || got != 4 {
			t.Errorf("%d attempts were executed %d times, want 4 and 1", got, executed)
		}
	})
}

// TestCrash kills the orchestrator while the saga sleeps and while a participant works.
func TestCrash(t *testing.T) {
	sagatest.Run(t, register, func(w *sagatest.World) {
		s := w.Start(changeAddress, moving())
		w.Settle()
		w.Crash()
		w.Advance(300 * 24 * time.Hour)
		if got := s.View().GetWaits(); len(got) != 1 || s.State() != treatyv1.SagaState_SAGA_STATE_RUNNING {
			t.Errorf("after 300 days, it waits for %v", got)
		}
		working := make(chan struct{})
		sagatest.Stub(w, cardv1.CardService_ChangePostalAddress_FullMethodName,
			func(context.Context, *cardv1.ChangePostalAddressRequest) (*cardv1.PostalAddressChanged, error) {
				close(working)
				return &cardv1.PostalAddressChanged{}, nil
			})
		<-working
		w.Crash()
		s.WantReply(&customerv1.AddressAgreed{Customer: "customers/ada", AddressRevision: 1})
	})
}

func TestCancel(t *testing.T) {
	sagatest.Run(t, register, func(w *sagatest.World) {
		s := w.Start(changeAddress, moving())
		w.Advance(time.Hour)
		if err := s.Cancel(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Result(); err == nil {
			t.Error("the saga succeeded although it was cancelled")
		}
		s.WantCommands("action ChangeAddress", "compensation RestoreAddress")
	})
}

// TestRetry sends a command again that failed for a moment.
func TestRetry(t *testing.T) {
	sagatest.Run(t, register, func(w *sagatest.World) {
		w.Script(customerv1.CustomerService_ChangeAddress_FullMethodName, sagatest.Fail(errors.New("out of order")))
		s := w.Start(changeAddress, moving())
		s.WantReply(&customerv1.AddressAgreed{Customer: "customers/ada", AddressRevision: 1})
	})
}
