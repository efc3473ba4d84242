package participant_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/participanttest"
)

// identity answers one command, which can be accepted, as a test says.
type identity struct {
	identityv1.UnimplementedIdentityServiceServer

	err error
}

func (s identity) InspectPassport(
	context.Context, *identityv1.InspectPassportRequest,
) (*identityv1.PassportInspected, error) {
	return &identityv1.PassportInspected{}, s.err
}

type customers struct {
	customerv1.UnimplementedCustomerServiceServer

	err    error
	panics bool
}

func (s customers) ChangeAddress(
	context.Context, *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	if s.panics {
		panic("oh")
	}
	return &customerv1.AddressChanged{}, s.err
}

// TestMarks compares the marks of answers.
func TestMarks(t *testing.T) {
	refusal := participant.Refuse(codes.NotFound, "no such customer", nil)
	for _, test := range []struct {
		name   string
		server customers
		want   string
	}{
		{"a reply", customers{}, ""},
		{"a refusal", customers{err: refusal}, "attempt"},
		{"a stored refusal", customers{err: participant.Settle(refusal)}, "settled"},
		{
			"a stored refusal that the handler has wrapped", customers{err: errors.Join(participant.Settle(refusal))},
			"settled",
		},
		{"a stored refusal that the handler has replaced", customers{err: status.Error(codes.Internal, "oh")},
			"attempt"},
		{"an error without a status", customers{err: errors.New("oh")}, "attempt"},
		{"a panic", customers{panics: true}, "attempt"},
		{"a command that is accepted", customers{err: participant.Pending(time.Minute)}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			connection := participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
				customerv1.RegisterCustomerServiceServer(r, test.server)
			})
			var trailer metadata.MD
			_, _ = customerv1.NewCustomerServiceClient(connection).ChangeAddress(
				participanttest.Action(t.Context(), "s", 1), &customerv1.ChangeAddressRequest{}, grpc.Trailer(&trailer))
			if got := strings.Join(trailer[participant.AnswerKey], " "); got != test.want {
				t.Errorf("the mark is %q, want %q", got, test.want)
			}
		})
	}
}

// TestMarksOfLibrary compares the marks of answers that no handler has made.
func TestMarksOfLibrary(t *testing.T) {
	connection := participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		customerv1.RegisterCustomerServiceServer(r, customers{})
		identityv1.RegisterIdentityServiceServer(r, identity{})
	})
	action := participanttest.Action(t.Context(), "s", 1)
	for _, test := range []struct {
		name   string
		ctx    context.Context
		method string
		code   codes.Code
		mark   string
	}{
		{"a method that can accept commands", action, identityv1.IdentityService_InspectPassport_FullMethodName,
			codes.OK,
			"done"},
		{"an unknown service", action, "/acme.Unknown/Do", codes.Unimplemented, "attempt"},
		{"an unknown method", action, "/acme.customer.v1.CustomerService/Do", codes.Unimplemented, "attempt"},
		{"a method without a handler", action, customerv1.CustomerService_RestoreAddress_FullMethodName,
			codes.Unimplemented, "attempt"},
		{"malformed metadata", metadata.AppendToOutgoingContext(t.Context(), participant.CommandIDKey, "1"),
			customerv1.CustomerService_ChangeAddress_FullMethodName, codes.InvalidArgument, "attempt"},
		{"metadata without the command id", metadata.AppendToOutgoingContext(t.Context(), participant.SagaKey,
			"sagas/s"),
			customerv1.CustomerService_ChangeAddress_FullMethodName, codes.InvalidArgument, "attempt"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var trailer metadata.MD
			err := connection.Invoke(test.ctx, test.method, &customerv1.ChangeAddressRequest{},
				&customerv1.AddressChanged{}, grpc.Trailer(&trailer))
			if got := strings.Join(trailer[participant.AnswerKey], " "); status.Code(err) != test.code ||
				got != test.mark {
				t.Errorf("got %v with the mark %q, want %v and %q", err, got, test.code, test.mark)
			}
		})
	}
}

// TestEpochAhead sends commands with epochs around the participant's clock.
func TestEpochAhead(t *testing.T) {
	epoch := func(ahead time.Duration) uint64 { return uint64(time.Now().Add(ahead).UnixMilli()) << 20 }
	for _, test := range []struct {
		name  string
		epoch uint64
		ahead bool
	}{
		{"an older orchestrator's", 7, false},
		{"now", epoch(0), false},
		{"an hour ahead", epoch(time.Hour), false},
		{"two days ahead", epoch(48 * time.Hour), true},
		{"the highest", 1<<63 - 1, true},
	} {
		err := participant.CheckEpoch(test.epoch, time.Now())
		if (err != nil) != test.ahead || err != nil && (status.Code(err) != codes.Unauthenticated ||
			reason(err) != "EPOCH_AHEAD") {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
	connection := participanttest.Serve(t, func(r grpc.ServiceRegistrar) {
		customerv1.RegisterCustomerServiceServer(r, customers{})
	})
	ctx := participant.Command{
		Saga: "sagas/s", CommandID: "sagas/s/steps/1", Direction: participant.Action, Attempt: 1, Epoch: 1<<63 - 1,
	}.Outgoing(t.Context())
	if _, err := customerv1.NewCustomerServiceClient(connection).ChangeAddress(ctx,
		&customerv1.ChangeAddressRequest{}); reason(err) != "EPOCH_AHEAD" {
		t.Errorf("got %v", err)
	}
}

func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// TestCallers sends commands from different addresses.
func TestCallers(t *testing.T) {
	address := func(text string) net.Addr { return net.TCPAddrFromAddrPort(mustAddrPort(t, text)) }
	for _, test := range []struct {
		name    string
		trust   participant.Trust
		from    net.Addr
		command bool
		want    codes.Code
	}{
		{"a command from this machine", participant.Trust{}, address("127.0.0.1:1"), true, codes.OK},
		{"a command from this machine over IPv6", participant.Trust{}, address("[::1]:1"), true, codes.OK},
		{"a command over a socket", participant.Trust{}, &net.UnixAddr{Name: "/x"}, true, codes.OK},
		{"a command from elsewhere", participant.Trust{}, address("192.0.2.1:1"), true, codes.Unauthenticated},
		{"a person's call from elsewhere", participant.Trust{}, address("192.0.2.1:1"), false, codes.OK},
		{"a command from elsewhere, when all are believed", participant.Believe(participant.AnyCaller),
			address("192.0.2.1:1"), true, codes.OK},
		{"a command from this machine without the identity", participant.Believe("orchestrator"),
			address("127.0.0.1:1"), true, codes.Unauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := peer.NewContext(t.Context(), &peer.Peer{Addr: test.from})
			if test.command {
				ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(participant.CommandIDKey, "sagas/s/steps/1",
					participant.DirectionKey, "action"))
			}
			executed := false
			_, err := participant.UnaryServerInterceptor(nil, test.trust)(ctx, nil,
				&grpc.UnaryServerInfo{FullMethod: "/acme/Do"}, func(context.Context, any) (any, error) {
					executed = true
					return struct{}{}, nil
				})
			if status.Code(err) != test.want || executed != (test.want == codes.OK) {
				t.Errorf("got %v, executed: %v", err, executed)
			}
			if test.want == codes.Unauthenticated && reason(err) != "CALLER_NOT_BELIEVED" {
				t.Errorf("the reason is %q", reason(err))
			}
		})
	}
}

// keeper is an inbox as a test says.
type keeper struct {
	methods []string
	heard   *treatyv1.HeardScope
	err     error
	rows    []*treatyv1.KnownCommand
	closed  *treatyv1.CloseCommandResponse
	callers []participant.Caller
}

func (k *keeper) KeptMethods() []string { return k.methods }

func (k *keeper) Hear(
	_ context.Context, caller participant.Caller, _ *treatyv1.DescribeRequest,
) (*treatyv1.HeardScope, error) {
	k.callers = append(k.callers, caller)
	return k.heard, k.err
}

func (k *keeper) ListCommands(
	_ context.Context, _ participant.Caller, request *treatyv1.ListCommandsRequest,
) (*treatyv1.ListCommandsResponse, error) {
	if request.GetPageToken() == "" && len(k.rows) > 1 {
		return &treatyv1.ListCommandsResponse{Commands: k.rows[:1], NextPageToken: "rest"}, nil
	}
	return &treatyv1.ListCommandsResponse{Commands: k.rows[max(0, len(k.rows)-1):]}, nil
}

func (k *keeper) CloseCommand(
	context.Context, participant.Caller, *treatyv1.CloseCommandRequest,
) (*treatyv1.CloseCommandResponse, error) {
	return k.closed, nil
}

const changeAddress = "acme.customer.v1.CustomerService/ChangeAddress"

func participantClient(t *testing.T, keepers ...participant.Keeper) treatyv1.ParticipantServiceClient {
	t.Helper()
	server, err := participant.NewServer(participant.Options{Keepers: keepers, StopTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	customerv1.RegisterCustomerServiceServer(server, customers{})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return treatyv1.NewParticipantServiceClient(participanttest.Dial(t, server.Addr().String()))
}

func asOrchestrator(ctx context.Context, epoch string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, participant.ScopeKey, "/0", participant.EpochKey, epoch)
}

func TestDescribe(t *testing.T) {
	a := &keeper{methods: []string{changeAddress}, heard: &treatyv1.HeardScope{Epoch: 5, Position: 9, StoreId: "a"}}
	b := &keeper{heard: &treatyv1.HeardScope{Epoch: 7, Position: 8, StoreId: "b", Horizon: timestamppb.Now()}}
	client := participantClient(t, a, b)
	var trailer metadata.MD
	got, err := client.Describe(asOrchestrator(t.Context(), "10"), &treatyv1.DescribeRequest{}, grpc.Trailer(&trailer))
	if err != nil {
		t.Fatal(err)
	}
	if mark := strings.Join(trailer[participant.AnswerKey], " "); mark != "done" {
		t.Errorf("the mark is %q", mark)
	}
	if !slices.Equal(got.GetServices(), []string{"acme.customer.v1.CustomerService"}) ||
		!slices.Equal(got.GetKeptMethods(), []string{changeAddress}) || len(got.GetFeatures()) != 4 ||
		!slices.Equal(got.GetReceivedKeys(), []string{participant.EpochKey, participant.ScopeKey}) ||
		len(got.GetContractsDigest()) != 64 || got.GetProtocolVersion() != 1 {
		t.Errorf("got %v", got)
	}
	if heard := got.GetHeard(); heard.GetEpoch() != 7 || heard.GetPosition() != 9 || heard.GetStoreId() != "b" ||
		heard.GetHorizon() == nil {
		t.Errorf("heard %v", heard)
	}
	if want := (participant.Caller{Scope: "/0", Epoch: 10}); a.callers[0] != want || b.callers[0] != want {
		t.Errorf("the callers are %v and %v", a.callers, b.callers)
	}
	a.err = status.Error(codes.Aborted, "stale")
	if _, err := client.Describe(asOrchestrator(t.Context(), "10"), &treatyv1.DescribeRequest{}); status.Code(err) !=
		codes.Aborted || len(b.callers) != 2 {
		t.Errorf("got %v; the other inbox heard %d calls", err, len(b.callers))
	}
	if _, err := client.Describe(t.Context(), &treatyv1.DescribeRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("without a scope: got %v", err)
	}
	// Without an inbox, it describes itself all the same.
	got, err = participantClient(t).Describe(asOrchestrator(t.Context(), "10"), &treatyv1.DescribeRequest{})
	if err != nil || len(got.GetFeatures()) != 2 {
		t.Errorf("without an inbox: got %v, %v", got, err)
	}
}

func TestListCommandsOfSeveralInboxes(t *testing.T) {
	row := func(id string) *treatyv1.KnownCommand { return &treatyv1.KnownCommand{CommandId: id} }
	client := participantClient(t, &keeper{rows: []*treatyv1.KnownCommand{row("1"), row("2")}}, &keeper{},
		&keeper{rows: []*treatyv1.KnownCommand{row("3")}})
	request := &treatyv1.ListCommandsRequest{Sagas: []string{"sagas/s"}}
	var ids []string
	for range 10 {
		page, err := client.ListCommands(asOrchestrator(t.Context(), "1"), request)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range page.GetCommands() {
			ids = append(ids, command.GetCommandId())
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	if got := strings.Join(ids, " "); got != "1 2 3" {
		t.Errorf("listed %q", got)
	}
	for name, request := range map[string]*treatyv1.ListCommandsRequest{
		"nothing":      {},
		"both":         {Sagas: []string{"sagas/s"}, Since: timestamppb.Now()},
		"no saga":      {Sagas: []string{"s"}},
		"a page token": {Sagas: []string{"sagas/s"}, PageToken: "9 x"},
		"many sagas":   {Sagas: slices.Repeat([]string{"sagas/s"}, 1001)},
	} {
		if _, err := client.ListCommands(asOrchestrator(t.Context(), "1"), request); status.Code(err) !=
			codes.InvalidArgument {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestCloseCommandOfSeveralInboxes(t *testing.T) {
	executed := &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Executed_{
		Executed: &treatyv1.CloseCommandResponse_Executed{Reply: []byte("reply")},
	}}
	closed := &treatyv1.CloseCommandResponse{Outcome: &treatyv1.CloseCommandResponse_Closed_{
		Closed: &treatyv1.CloseCommandResponse_Closed{},
	}}
	keeps := []string{changeAddress, "acme.other.v1.Other/Do"}
	client := participantClient(t, &keeper{methods: keeps, closed: closed}, &keeper{methods: keeps, closed: executed},
		&keeper{})
	closing := func(method string) (*treatyv1.CloseCommandResponse, error) {
		return client.CloseCommand(asOrchestrator(t.Context(), "1"), &treatyv1.CloseCommandRequest{
			CommandId: "sagas/s/steps/1", Method: method,
		})
	}
	if got, err := closing(changeAddress); err != nil || string(got.GetExecuted().GetReply()) != "reply" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, method := range []string{"acme.other.v1.Other/Do", "acme.customer.v1.CustomerService/RestoreAddress"} {
		if got, err := closing(method); err != nil || got.GetNotKept() == nil {
			t.Errorf("%s: got %v, %v", method, got, err)
		}
	}
	if _, err := client.CloseCommand(asOrchestrator(t.Context(), "1"), &treatyv1.CloseCommandRequest{
		CommandId: "1", Method: changeAddress,
	}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a malformed id: got %v", err)
	}
}
