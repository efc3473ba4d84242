package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/timestamppb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	"github.com/treatyhq/treaty/orchestrator"
)

// company stands in for all of Acme's services at once. It does nothing and remembers which commands came.
type company struct {
	customerv1.UnimplementedCustomerServiceServer
	identityv1.UnimplementedIdentityServiceServer
	creditv1.UnimplementedCreditServiceServer
	cardv1.UnimplementedCardServiceServer
	notificationv1.UnimplementedNotificationServiceServer

	lastCheck *creditv1.Check // what GetLastCheck answers

	mu       sync.Mutex
	refusals map[string]error // by method, e.g. "CheckCredit"
	commands []string
}

// note remembers each command, and refuses those that are to be refused.
func (c *company) note(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	direction := metadata.ValueFromIncomingContext(ctx, "treaty-direction")
	c.mu.Lock()
	c.commands = append(c.commands, fmt.Sprintf("%s %s", strings.Join(direction, ","), method))
	refusal := c.refusals[method]
	c.mu.Unlock()
	if refusal != nil {
		return nil, refusal
	}
	return handler(ctx, request)
}

func (c *company) CreateCustomer(context.Context, *customerv1.CreateCustomerRequest) (*customerv1.CustomerCreated, error) {
	return &customerv1.CustomerCreated{Customer: "customers/ada", AddressRevision: 1}, nil
}

func (c *company) RemoveCustomer(_ context.Context, r *customerv1.RemoveCustomerRequest) (*customerv1.CustomerRemoved, error) {
	return &customerv1.CustomerRemoved{}, want("customers/ada", r.GetReply().GetCustomer())
}

func (c *company) ChangeAddress(_ context.Context, r *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
	return &customerv1.AddressChanged{Customer: r.GetCustomer(), AddressRevision: 2}, nil
}

func (c *company) RestoreAddress(_ context.Context, r *customerv1.RestoreAddressRequest) (*customerv1.AddressRestored, error) {
	return &customerv1.AddressRestored{}, want("customers/ada", r.GetReply().GetCustomer())
}

func (c *company) RegisterApplicant(_ context.Context, r *identityv1.RegisterApplicantRequest) (*identityv1.ApplicantRegistered, error) {
	return &identityv1.ApplicantRegistered{Applicant: "applicants/ada"}, want("customers/ada", r.GetCustomer())
}

func (c *company) WithdrawApplicant(_ context.Context, r *identityv1.WithdrawApplicantRequest) (*identityv1.ApplicantWithdrawn, error) {
	return &identityv1.ApplicantWithdrawn{}, want("applicants/ada", r.GetReply().GetApplicant())
}

func (c *company) GetLastCheck(context.Context, *creditv1.GetLastCheckRequest) (*creditv1.LastCheck, error) {
	return &creditv1.LastCheck{Check: c.lastCheck}, nil
}

func (c *company) CheckCredit(context.Context, *creditv1.CheckCreditRequest) (*creditv1.CreditChecked, error) {
	return &creditv1.CreditChecked{Check: "checks/new"}, nil
}

func (c *company) AbandonCheck(_ context.Context, r *creditv1.AbandonCheckRequest) (*creditv1.CheckAbandoned, error) {
	return &creditv1.CheckAbandoned{}, want("checks/new", r.GetReply().GetCheck())
}

func (c *company) IssueCard(_ context.Context, r *cardv1.IssueCardRequest) (*cardv1.CardIssued, error) {
	return &cardv1.CardIssued{Card: "cards/ada", LastFour: "0042"}, want("customers/ada", r.GetCustomer())
}

func (c *company) ChangePostalAddress(_ context.Context, r *cardv1.ChangePostalAddressRequest) (*cardv1.PostalAddressChanged, error) {
	return &cardv1.PostalAddressChanged{Customer: r.GetCustomer()}, nil
}

func (c *company) SendWelcome(_ context.Context, r *notificationv1.SendWelcomeRequest) (*notificationv1.WelcomeSent, error) {
	return &notificationv1.WelcomeSent{Message: "messages/ada"}, want("0042", r.GetCardLastFour())
}

// want refuses a request with something else in it than it should have.
func want(want, got string) error {
	if got == want {
		return nil
	}
	return status.Errorf(codes.InvalidArgument, "got %q, want %q", got, want)
}

// refused is a refusal with a typed rejection.
func refused(t *testing.T, rejection protoadapt.MessageV1) error {
	t.Helper()
	s, err := status.New(codes.FailedPrecondition, "no").WithDetails(rejection)
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// checked is a credit check of some time ago.
func checked(ago time.Duration, limitCents int64) *creditv1.Check {
	return &creditv1.Check{Name: "checks/old", CheckTime: timestamppb.New(time.Now().Add(-ago)), ApprovedLimitCents: limitCents}
}

// seen returns the commands that came.
func (c *company) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.commands...)
}

// open starts the company and an orchestrator with Acme's sagas, and returns a connection to the orchestrator.
func open(t *testing.T, c *company) *grpc.ClientConn {
	t.Helper()
	participants := listen(t)
	services := grpc.NewServer(grpc.UnaryInterceptor(c.note))
	customerv1.RegisterCustomerServiceServer(services, c)
	identityv1.RegisterIdentityServiceServer(services, c)
	creditv1.RegisterCreditServiceServer(services, c)
	cardv1.RegisterCardServiceServer(services, c)
	notificationv1.RegisterNotificationServiceServer(services, c)
	options := []orchestrator.Option{
		orchestrator.WithStore(filepath.Join(t.TempDir(), "treaty.db")),
		orchestrator.WithLogger(slog.New(slog.DiscardHandler)),
	}
	for name := range services.GetServiceInfo() {
		options = append(options, orchestrator.WithParticipant(name, participants.Addr().String()))
	}
	o, err := orchestrator.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	register(o)
	api := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = services.Serve(participants) })
	running.Go(func() {
		if err := o.Serve(ctx, api); err != nil {
			t.Error(err)
		}
	})
	conn, err := grpc.NewClient(api.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		cancel()
		services.Stop()
		running.Wait()
	})
	return conn
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
