package client_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/client"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	benchv1 "github.com/treatyhq/treaty/gen/bench/v1"
	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// customers is a participant that executes a command when it is let go.
type customers struct {
	customerv1.UnimplementedCustomerServiceServer

	arrived, release chan struct{}
}

func (c customers) ChangeAddress(
	ctx context.Context, in *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	if in.GetCustomer() == "customers/closed" {
		s, err := status.New(codes.FailedPrecondition, "closed").WithDetails(&customerv1.CustomerClosed{})
		if err != nil {
			return nil, err
		}
		return nil, s.Err()
	}
	select {
	case c.arrived <- struct{}{}:
	default:
	}
	select {
	case <-c.release:
		return &customerv1.AddressChanged{Customer: in.GetCustomer(), AddressRevision: 2}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

type system struct {
	customers

	t                           *testing.T
	store, address, participant string
	started                     atomic.Int32 // sagas whose code has got the reply
}

func newSystem(t *testing.T) *system {
	s := &system{t: t, store: filepath.Join(t.TempDir(), "treaty.db"), address: testkit.UnusedAddress(t),
		customers: customers{arrived: make(chan struct{}, 1), release: make(chan struct{})}}
	server := grpc.NewServer()
	customerv1.RegisterCustomerServiceServer(server, s.customers)
	s.participant = testkit.Serve(t, server)
	return s
}

// open runs the orchestrator, until the returned function is called.
func (s *system) open() (stop func()) {
	s.t.Helper()
	ready := make(chan orchestrator.Ready, 1)
	o, err := orchestrator.New(orchestrator.WithStore(s.store), orchestrator.WithLogger(testkit.Logger(s.t)),
		orchestrator.WithParticipant("acme.customer.v1.CustomerService", s.participant),
		orchestrator.WithReady(func(r orchestrator.Ready) { ready <- r }))
	if err != nil {
		s.t.Fatal(err)
	}
	register(o, func() { s.started.Add(1) })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.ListenAndServe(ctx, s.address) }()
	select {
	case <-ready:
	case err := <-done:
		s.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Error(err)
		}
	})
	s.t.Cleanup(stop)
	return stop
}

// register registers sagas. One with a step calls done once it has got the step's reply.
func register(r saga.Registrar, done func()) {
	saga.Register(r, customerv1.CustomerSagas_ChangeAddress_FullMethodName,
		func(ctx saga.Context, in *customerv1.ChangeAddressSagaRequest) (*customerv1.AddressAgreed, error) {
			changed := new(customerv1.AddressChanged)
			err := saga.Call(ctx, customerv1.CustomerService_ChangeAddress_FullMethodName,
				&customerv1.ChangeAddressRequest{Customer: in.GetCustomer()}, changed)
			if err != nil {
				return nil, err
			}
			done()
			return &customerv1.AddressAgreed{AddressRevision: changed.GetAddressRevision()}, nil
		})
	saga.Register(r, benchv1.WorkSagas_Run_FullMethodName,
		func(saga.Context, *benchv1.RunRequest) (*benchv1.RunDone, error) { return &benchv1.RunDone{}, nil })
}

func (s *system) run(address, customer string, options ...grpc.CallOption) (*customerv1.AddressAgreed, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	return client.Run(ctx, customerv1.NewCustomerSagasClient(testkit.Dial(s.t, address)).ChangeAddress,
		&customerv1.ChangeAddressSagaRequest{Customer: customer}, options...)
}

func TestRunOverBrokenConnections(t *testing.T) {
	s := newSystem(t)
	s.open()
	close(s.release)
	middle, err := hostile.Listen(s.address, hostile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer middle.Close()
	var calls atomic.Int32
	middle.Program(func(*hostile.Call) hostile.Plan {
		switch calls.Add(1) {
		case 1:
			return hostile.Give(hostile.CloseConn(), hostile.AfterRequest)
		case 2:
			return hostile.Swallow()
		case 3:
			return hostile.Give(hostile.CloseConn(), hostile.AfterHeaders)
		default:
			return hostile.Pass()
		}
	})
	agreed, err := s.run(middle.Addr(), "customers/ada", client.AttemptTimeout(time.Second))
	if err != nil || agreed.GetAddressRevision() != 2 || s.started.Load() != 1 || calls.Load() < 4 {
		t.Errorf("%v, %v after %d calls and %d sagas", agreed, err, calls.Load(), s.started.Load())
	}
}

func TestRunOverRestart(t *testing.T) {
	s := newSystem(t)
	stop := s.open()
	var agreed *customerv1.AddressAgreed
	ended := make(chan error, 1)
	go func() {
		var err error
		agreed, err = s.run(s.address, "customers/ada")
		ended <- err
	}()
	<-s.arrived
	stop()
	close(s.release)
	s.open()
	if err := <-ended; err != nil || agreed.GetAddressRevision() != 2 {
		t.Errorf("%v, %v", agreed, err)
	}
	if n := s.started.Load(); n != 1 {
		t.Errorf("%d sagas, want 1", n)
	}
}

func TestRunReturnsRejection(t *testing.T) {
	s := newSystem(t)
	s.open()
	var id string
	_, err := s.run(s.address, "customers/closed", client.OnRequestID(func(made string) { id = made }))
	if _, ok := client.Rejection[*customerv1.CustomerClosed](err); !ok || !client.Compensated(err) || id == "" {
		t.Errorf("error %v, request id %q", err, id)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	s := newSystem(t)
	s.open()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-s.arrived; cancel() }()
	_, err := client.Run(ctx, customerv1.NewCustomerSagasClient(testkit.Dial(t, s.address)).ChangeAddress,
		&customerv1.ChangeAddressSagaRequest{Customer: "customers/ada"})
	if !errors.Is(err, context.Canceled) || status.Code(err) != codes.Canceled || !client.Unknown(err) {
		t.Errorf("error %v", err)
	}
	close(s.release)
}
