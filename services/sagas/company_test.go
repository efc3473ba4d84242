package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/anypb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// company is a fake of all of Acme's services. It has no effects and records the commands that arrive. Things are named
// after the person: ada's applicant is applicants/ada.
type company struct {
	customerv1.UnimplementedCustomerServiceServer
	identityv1.UnimplementedIdentityServiceServer
	creditv1.UnimplementedCreditServiceServer
	cardv1.UnimplementedCardServiceServer
	notificationv1.UnimplementedNotificationServiceServer

	lastCheck *creditv1.Check // the answer of GetLastCheck
	// what the register publishes about a new applicant; nothing if nil
	decide func(applicant string) proto.Message
	// the outcome of an inspection; the passport is genuine if nil
	inspect  func(context.Context, string) error
	credit   func(*creditv1.CheckCreditRequest) error        // the outcome of a credit check; passed if nil
	customer func(*customerv1.Customer) *customerv1.Customer // the answer of GetCustomer; the customer if nil

	orchestrator *grpc.ClientConn
	turnedAway   chan string // if not nil, receives the method of each refused command

	mu       sync.Mutex
	refusals map[string]error // by method, e.g. "CheckCredit"
	commands []string
}

// note records each command, and refuses the commands in refusals.
func (c *company) note(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	method := info.FullMethod[strings.LastIndexByte(info.FullMethod, '/')+1:]
	direction := metadata.ValueFromIncomingContext(ctx, "treaty-direction")
	c.mu.Lock()
	c.commands = append(c.commands, fmt.Sprintf("%s %s", strings.Join(direction, ","), method))
	refusal := c.refusals[method]
	c.mu.Unlock()
	if refusal == nil {
		return handler(ctx, request)
	}
	select {
	case c.turnedAway <- method:
	default:
	}
	return nil, refusal
}

func (c *company) CreateCustomer(
	_ context.Context, r *customerv1.CreateCustomerRequest,
) (*customerv1.CustomerCreated, error) {
	return &customerv1.CustomerCreated{Customer: "customers/" + strings.ToLower(r.GetDisplayName()),
		AddressRevision: 1}, nil
}

func (c *company) RemoveCustomer(
	_ context.Context, r *customerv1.RemoveCustomerRequest,
) (*customerv1.CustomerRemoved, error) {
	return &customerv1.CustomerRemoved{}, want("customers/"+strings.ToLower(r.GetAction().GetDisplayName()),
		r.GetReply().GetCustomer())
}

func (c *company) GetCustomer(_ context.Context, r *customerv1.GetCustomerRequest) (*customerv1.Customer, error) {
	found := &customerv1.Customer{
		Name: r.GetName(), State: customerv1.CustomerState_CUSTOMER_STATE_ACTIVE,
		DisplayName: "Ada", Email: "ada@example.com",
	}
	if c.customer != nil {
		found = c.customer(found)
	}
	return found, nil
}

func (c *company) ChangeAddress(
	_ context.Context, r *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	return &customerv1.AddressChanged{Customer: r.GetCustomer(), AddressRevision: 2}, nil
}

func (c *company) RestoreAddress(
	_ context.Context, r *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	return &customerv1.AddressRestored{}, want("customers/ada", r.GetReply().GetCustomer())
}

// RegisterApplicant makes the register publish its decision before the saga receives the reply. The saga awaits the
// decision much later.
func (c *company) RegisterApplicant(
	ctx context.Context, r *identityv1.RegisterApplicantRequest,
) (*identityv1.ApplicantRegistered, error) {
	applicant := "applicants/" + strings.TrimPrefix(r.GetCustomer(), "customers/")
	if c.decide != nil {
		if err := c.publish(ctx, applicant, c.decide(applicant)); err != nil {
			return nil, err
		}
	}
	return &identityv1.ApplicantRegistered{Applicant: applicant}, want("customers/"+strings.ToLower(r.GetDisplayName()),
		r.GetCustomer())
}

func (c *company) publish(ctx context.Context, id string, event proto.Message) error {
	data, err := anypb.New(event)
	if err != nil {
		return fmt.Errorf("packing an event: %w", err)
	}
	_, err = treatyv1.NewEventServiceClient(c.orchestrator).PublishEvents(ctx, &treatyv1.PublishEventsRequest{
		Events: []*treatyv1.PublishedEvent{{Id: id, Source: "register", Data: data}},
	})
	return err
}

// verified is what the register publishes about a person whom it vouches for.
func verified(applicant string) proto.Message {
	return &identityv1.ApplicantVerified{Applicant: applicant, RegisterReference: "REG-1"}
}

func (c *company) WithdrawApplicant(
	_ context.Context, r *identityv1.WithdrawApplicantRequest,
) (*identityv1.ApplicantWithdrawn, error) {
	return &identityv1.ApplicantWithdrawn{}, want("applicants/"+strings.ToLower(r.GetAction().GetDisplayName()),
		r.GetReply().GetApplicant())
}

func (c *company) InspectPassport(
	ctx context.Context, r *identityv1.InspectPassportRequest,
) (*identityv1.PassportInspected, error) {
	if c.inspect != nil {
		if err := c.inspect(ctx, r.GetApplicant()); err != nil {
			return nil, err
		}
	}
	return inspected(r.GetApplicant()), nil
}

func inspected(applicant string) *identityv1.PassportInspected {
	return &identityv1.PassportInspected{Applicant: applicant, Inspection: "inspections/" +
		strings.TrimPrefix(applicant, "applicants/")}
}

func (c *company) DiscardInspection(
	context.Context, *identityv1.DiscardInspectionRequest,
) (*identityv1.InspectionDiscarded, error) {
	return &identityv1.InspectionDiscarded{}, nil
}

// GetLastCheck expects a saga that asks about a person to leave out its own customer.
func (c *company) GetLastCheck(
	_ context.Context, r *creditv1.GetLastCheckRequest,
) (*creditv1.LastCheck, error) {
	own := ""
	if name, _, ok := strings.Cut(r.GetNationalId(), "-"); ok {
		own = "customers/" + strings.ToLower(name)
	}
	return &creditv1.LastCheck{Check: c.lastCheck}, want(own, r.GetExceptCustomer())
}

func (c *company) CheckCredit(_ context.Context, r *creditv1.CheckCreditRequest) (*creditv1.CreditChecked, error) {
	if c.credit != nil {
		if err := c.credit(r); err != nil {
			return nil, err
		}
	}
	return &creditv1.CreditChecked{Check: "checks/new"}, nil
}

func (c *company) AbandonCheck(_ context.Context, r *creditv1.AbandonCheckRequest) (*creditv1.CheckAbandoned, error) {
	return &creditv1.CheckAbandoned{}, want("checks/new", r.GetReply().GetCheck())
}

func (c *company) ReuseCheck(_ context.Context, r *creditv1.ReuseCheckRequest) (*creditv1.CheckReused, error) {
	return &creditv1.CheckReused{Check: "checks/reused"}, want(c.lastCheck.GetName(), r.GetCheck())
}

func (c *company) ReleaseCheck(_ context.Context, r *creditv1.ReleaseCheckRequest) (*creditv1.CheckReleased, error) {
	return &creditv1.CheckReleased{}, want("checks/reused", r.GetReply().GetCheck())
}

func (c *company) IssueCard(_ context.Context, r *cardv1.IssueCardRequest) (*cardv1.CardIssued, error) {
	return &cardv1.CardIssued{Card: "cards/ada", LastFour: "0042"}, want("customers/ada", r.GetCustomer())
}

func (c *company) IssueExtraCard(_ context.Context, r *cardv1.IssueExtraCardRequest) (*cardv1.ExtraCardIssued, error) {
	return &cardv1.ExtraCardIssued{Card: "cards/" + strings.TrimPrefix(r.GetCustomer(), "customers/"),
		LastFour: "0043"}, want("cards/ada", r.GetMainCard())
}

func (c *company) ChangePostalAddress(
	_ context.Context, r *cardv1.ChangePostalAddressRequest,
) (*cardv1.PostalAddressChanged, error) {
	return &cardv1.PostalAddressChanged{Customer: r.GetCustomer()}, nil
}

func (c *company) RestorePostalAddress(
	context.Context, *cardv1.RestorePostalAddressRequest,
) (*cardv1.PostalAddressRestored, error) {
	return &cardv1.PostalAddressRestored{}, nil
}

func (c *company) SendWelcome(
	_ context.Context, r *notificationv1.SendWelcomeRequest,
) (*notificationv1.WelcomeSent, error) {
	lastFour := "0043"
	if r.GetCustomer() == "customers/ada" {
		lastFour = "0042"
	}
	return &notificationv1.WelcomeSent{Message: "messages/ada"}, want(lastFour, r.GetCardLastFour())
}

func (c *company) SendReview(
	_ context.Context, r *notificationv1.SendReviewRequest,
) (*notificationv1.ReviewSent, error) {
	return &notificationv1.ReviewSent{Message: "messages/ada"}, want(fmt.Sprint(c.lastCheck.GetApprovedLimitCents()),
		fmt.Sprint(r.GetApprovedLimitCents()))
}

// userData stores three records of one kind about everybody.
type userData struct {
	privacyv1.UnimplementedUserDataServiceServer

	kind string
}

func (d userData) DeleteUserData(
	_ context.Context, r *privacyv1.DeleteUserDataRequest,
) (*privacyv1.UserDataDeleted, error) {
	return &privacyv1.UserDataDeleted{Erased: []*privacyv1.ErasedRecords{{Kind: d.kind, Deleted: 3}}},
		want("customers/ada", r.GetCustomer())
}

// want refuses a request that differs from the expected one.
func want(want, got string) error {
	if got == want {
		return nil
	}
	return status.Errorf(codes.InvalidArgument, "got %q, want %q", got, want)
}

// refused returns a refusal with a typed rejection.
func refused(t *testing.T, rejection protoadapt.MessageV1) error {
	t.Helper()
	s, err := status.New(codes.FailedPrecondition, "no").WithDetails(rejection)
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// allow stops refusing a command.
func (c *company) allow(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.refusals, method)
}

// seen returns the commands that arrived.
func (c *company) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.commands...)
}

// counts returns how often each command arrived, for sagas that send some in parallel.
func (c *company) counts() map[string]int {
	counts := make(map[string]int)
	for _, command := range c.seen() {
		counts[command]++
	}
	return counts
}

// served is one service of the company.
type served struct {
	name     string
	register func(grpc.ServiceRegistrar)
}

func (c *company) services() []served {
	return []served{
		{customerv1.CustomerService_ServiceDesc.ServiceName,
			func(r grpc.ServiceRegistrar) { customerv1.RegisterCustomerServiceServer(r, c) }},
		{identityv1.IdentityService_ServiceDesc.ServiceName,
			func(r grpc.ServiceRegistrar) { identityv1.RegisterIdentityServiceServer(r, c) }},
		{creditv1.CreditService_ServiceDesc.ServiceName,
			func(r grpc.ServiceRegistrar) { creditv1.RegisterCreditServiceServer(r, c) }},
		{cardv1.CardService_ServiceDesc.ServiceName, func(r grpc.ServiceRegistrar) {
			cardv1.RegisterCardServiceServer(r, c)
			privacyv1.RegisterUserDataServiceServer(r, userData{kind: "cards"})
		}},
		{notificationv1.NotificationService_ServiceDesc.ServiceName, func(r grpc.ServiceRegistrar) {
			notificationv1.RegisterNotificationServiceServer(r, c)
			privacyv1.RegisterUserDataServiceServer(r, userData{kind: "messages"})
		}},
	}
}

// open starts the company with the services that join it, and an orchestrator with Acme's sagas. It returns a
// connection to the orchestrator.
func open(t *testing.T, c *company, joining ...served) *grpc.ClientConn {
	t.Helper()
	conn, _ := orchestrate(t, c, filepath.Join(t.TempDir(), "treaty.db"), c.open(t, joining...), register)
	return conn
}

// open starts the services and returns their addresses.
func (c *company) open(t *testing.T, joining ...served) (participants []orchestrator.Option) {
	t.Helper()
	for _, one := range append(c.services(), joining...) {
		server := grpc.NewServer(grpc.UnaryInterceptor(c.note))
		one.register(server)
		participants = append(participants, orchestrator.WithParticipant(one.name, testkit.Serve(t, server)))
	}
	return append(participants, orchestrator.WithBroadcast(privacyv1.UserDataService_ServiceDesc.ServiceName,
		cardv1.CardService_ServiceDesc.ServiceName, notificationv1.NotificationService_ServiceDesc.ServiceName))
}

// orchestrate starts an orchestrator and returns a connection to it when it is ready. It runs until the test stops it
// or ends.
func orchestrate(
	t *testing.T, c *company, store string, participants []orchestrator.Option, register func(saga.Registrar),
) (conn *grpc.ClientConn, stop func()) {
	t.Helper()
	ready, ended := make(chan struct{}), make(chan struct{})
	o, err := orchestrator.New(append(slices.Clip(participants),
		orchestrator.WithStore(store),
		orchestrator.WithLogger(slog.New(slog.DiscardHandler)),
		orchestrator.WithReady(func(orchestrator.Ready) { close(ready) }),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	register(o)
	api := testkit.Listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(ended)
		if err := o.Serve(ctx, api); err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-ready:
	case <-ended:
	}
	conn = testkit.Dial(t, api.Addr().String())
	c.orchestrator = conn
	stop = sync.OnceFunc(func() {
		_ = conn.Close()
		cancel()
		<-ended
	})
	t.Cleanup(stop)
	return conn, stop
}

// await watches a saga until it satisfies a condition.
func await(t *testing.T, sagas treatyv1.SagaServiceClient, name string, wanted func(*treatyv1.Saga) bool) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := sagas.WatchSaga(ctx, &treatyv1.WatchSagaRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			t.Fatalf("watching: %v", err)
		}
		if wanted(response.GetSaga()) {
			return
		}
	}
}
