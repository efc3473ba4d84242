package orchestrator_test

import (
	"cmp"
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

const (
	customerService = "acme.customer.v1.CustomerService"
	cardService     = "acme.card.v1.CardService"
	changeAddress   = "acme.customer.v1.CustomerSagas/ChangeAddress"
)

// registerSagas registers a small saga: the customer's address, then where cards are posted to.
func registerSagas(r saga.Registrar) {
	saga.Register(r, customerv1.CustomerSagas_ChangeAddress_FullMethodName, changeTheAddress)
}

func changeTheAddress(
	ctx saga.Context, in *customerv1.ChangeAddressSagaRequest,
) (*customerv1.AddressAgreed, error) {
	changed := new(customerv1.AddressChanged)
	err := saga.Call(ctx, customerv1.CustomerService_ChangeAddress_FullMethodName,
		&customerv1.ChangeAddressRequest{Customer: in.GetCustomer(), Address: in.GetAddress()}, changed)
	if err != nil {
		return nil, err
	}
	err = saga.Call(ctx, cardv1.CardService_ChangePostalAddress_FullMethodName,
		&cardv1.ChangePostalAddressRequest{
			Customer: in.GetCustomer(), Postal: &cardv1.Postal{Lines: in.GetAddress().GetLines()},
			AddressRevision: changed.GetAddressRevision(),
		}, new(cardv1.PostalAddressChanged))
	if err != nil {
		return nil, err
	}
	return &customerv1.AddressAgreed{Customer: in.GetCustomer(), Address: in.GetAddress(),
		AddressRevision: changed.GetAddressRevision()}, nil
}

// participants are the customer service and the card service in one process.
type participants struct {
	customerv1.UnimplementedCustomerServiceServer
	cardv1.UnimplementedCardServiceServer

	address string

	mu       sync.Mutex
	calls    []string
	restores int // refused RestoreAddress calls to come
	hold     chan struct{}
	customer chan struct{} // for which ChangeAddress waits, if set
	held     chan struct{}
}

func newParticipants(t *testing.T, options ...grpc.ServerOption) *participants {
	t.Helper()
	p := &participants{held: make(chan struct{}, 10)}
	s := grpc.NewServer(options...)
	customerv1.RegisterCustomerServiceServer(s, p)
	cardv1.RegisterCardServiceServer(s, p)
	p.address = testkit.Serve(t, s)
	return p
}

func (p *participants) note(call string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, call)
}

func (p *participants) seen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.calls, " ")
}

// stall makes the card service wait until the returned function is called.
func (p *participants) stall() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hold := make(chan struct{})
	p.hold = hold
	return sync.OnceFunc(func() {
		p.mu.Lock()
		p.hold = nil
		p.mu.Unlock()
		close(hold)
	})
}

// stallCustomer makes the customer service wait until the returned function is called.
func (p *participants) stallCustomer() (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.customer = make(chan struct{})
	return sync.OnceFunc(func() { close(p.customer) })
}

func (p *participants) ChangeAddress(
	ctx context.Context, _ *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	p.note("ChangeAddress")
	p.mu.Lock()
	wait := p.customer
	p.mu.Unlock()
	if wait != nil {
		p.held <- struct{}{}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	return &customerv1.AddressChanged{AddressRevision: 2}, nil
}

func (p *participants) RestoreAddress(
	context.Context, *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	p.note("RestoreAddress")
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.restores > 0 {
		p.restores--
		return nil, status.Error(codes.FailedPrecondition, "the customer is locked")
	}
	return &customerv1.AddressRestored{}, nil
}

func (p *participants) ChangePostalAddress(
	ctx context.Context, in *cardv1.ChangePostalAddressRequest,
) (*cardv1.PostalAddressChanged, error) {
	p.note("ChangePostalAddress")
	p.mu.Lock()
	hold := p.hold
	p.mu.Unlock()
	if hold != nil {
		p.held <- struct{}{}
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	if strings.HasPrefix(in.GetPostal().GetLines()[0], "P.O.") {
		st, err := status.New(codes.FailedPrecondition,
			"cards aren't posted to P.O. boxes").WithDetails(&cardv1.AddressNotServed{Reason: "a P.O. box"})
		if err != nil {
			return nil, err
		}
		return nil, st.Err()
	}
	return &cardv1.PostalAddressChanged{Customer: in.GetCustomer()}, nil
}

// system is a running orchestrator with its participants.
type system struct {
	t            *testing.T
	store        string
	participants *participants
	options      []orchestrator.Option
	register     func(saga.Registrar) // registerSagas unless a test sets another
	address      string               // "127.0.0.1:0" unless a test sets another

	conn  *grpc.ClientConn
	sagas treatyv1.SagaServiceClient
	acme  customerv1.CustomerSagasClient
	ready orchestrator.Ready
	stop  func()
}

func newSystem(t *testing.T) *system {
	w := unopened(t, newParticipants(t))
	w.open()
	return w
}

func unopened(t *testing.T, p *participants) *system {
	return &system{t: t, store: filepath.Join(t.TempDir(), "treaty.db"), participants: p}
}

// open runs an orchestrator on the store as it is.
func (w *system) open() {
	t := w.t
	t.Helper()
	ready := make(chan orchestrator.Ready, 1)
	o, err := orchestrator.New(append([]orchestrator.Option{
		orchestrator.WithStore(w.store),
		orchestrator.WithParticipant(customerService, w.participants.address),
		orchestrator.WithParticipant(cardService, w.participants.address),
		orchestrator.WithLogger(testkit.Logger(t)),
		orchestrator.WithReady(func(r orchestrator.Ready) { ready <- r }),
	}, w.options...)...)
	if err != nil {
		t.Fatal(err)
	}
	if w.register == nil {
		w.register = registerSagas
	}
	w.register(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.ListenAndServe(ctx, cmp.Or(w.address, "127.0.0.1:0")) }()
	select {
	case w.ready = <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	w.conn = testkit.Dial(t, w.ready.Address)
	w.sagas, w.acme = treatyv1.NewSagaServiceClient(w.conn), customerv1.NewCustomerSagasClient(w.conn)
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(w.stop)
}

func (w *system) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	w.t.Cleanup(cancel)
	return ctx
}

func move(id, line string) *customerv1.ChangeAddressSagaRequest {
	return &customerv1.ChangeAddressSagaRequest{RequestId: id, Customer: "customers/ada",
		Address: &customerv1.Address{Lines: []string{line}}}
}

// info returns the reason and the saga's name in an error of the orchestrator.
func info(err error) (reason treatyv1.ErrorReason, saga string) {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return wire.ParseReason(info.GetReason()), info.GetMetadata()[wire.ErrorSaga]
		}
	}
	return treatyv1.ErrorReason_ERROR_REASON_UNSPECIFIED, ""
}

func (p *participants) RestorePostalAddress(
	context.Context, *cardv1.RestorePostalAddressRequest,
) (*cardv1.PostalAddressRestored, error) {
	p.note("RestorePostalAddress")
	return &cardv1.PostalAddressRestored{}, nil
}
