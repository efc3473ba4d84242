package participant_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/emptypb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
)

// changer answers ChangeAddress and RestoreAddress with functions.
type changer struct {
	customerv1.UnimplementedCustomerServiceServer

	change  func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error)
	restore func(context.Context, *customerv1.RestoreAddressRequest) (*customerv1.AddressRestored, error)
}

func (c *changer) ChangeAddress(
	ctx context.Context, request *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	return c.change(ctx, request)
}

func (c *changer) RestoreAddress(
	ctx context.Context, request *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	return c.restore(ctx, request)
}

// echoing returns the name in the request.
func echoing(_ context.Context, request *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
	return &customerv1.AddressChanged{Customer: request.GetCustomer()}, nil
}

// action returns an action of a saga that changes a customer's address.
func action(t testing.TB, customer string) *treatyv1.StreamedCommand {
	t.Helper()
	request, err := proto.Marshal(&customerv1.ChangeAddressRequest{Customer: customer})
	if err != nil {
		t.Fatal(err)
	}
	return &treatyv1.StreamedCommand{
		Method: changeAddress, CommandId: "sagas/s/steps/1", Attempt: 1, Request: request,
		Direction: treatyv1.StepDirection_STEP_DIRECTION_ACTION,
	}
}

// TestThousandCommandsAtOnce sends a thousand commands whose handlers wait for each other.
func TestThousandCommandsAtOnce(t *testing.T) {
	const n = 1000
	var entered atomic.Int32
	all := make(chan struct{})
	server, _ := serve(t, participant.Options{}, &changer{change: func(
		ctx context.Context, request *customerv1.ChangeAddressRequest,
	) (*customerv1.AddressChanged, error) {
		if entered.Add(1) == n {
			close(all)
		}
		<-all
		return echoing(ctx, request)
	}})
	commands := testkit.MustOpenCommands(t, testkit.Dial(t, server.Addr().String()))
	batch := make([]*treatyv1.StreamedCommand, n)
	for i := range batch {
		batch[i] = action(t, string(rune('a'+i)))
	}
	answers, err := commands.Send(batch...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range answers {
		answer, ok := <-answers[i]
		if !ok {
			t.Fatal(commands.Err())
		}
		var reply customerv1.AddressChanged
		if err := proto.Unmarshal(answer.GetReply(), &reply); err != nil || answer.GetFailure() != nil {
			t.Fatal(answer, err)
		}
		if reply.GetCustomer() != string(rune('a'+i)) {
			t.Errorf("command %d was answered with the reply to %q", i, reply.GetCustomer())
		}
	}
}

// ways are the two ways in which a command reaches a participant.
var ways = map[string]func(context.Context, *grpc.ClientConn, *treatyv1.StreamedCommand) outcome{
	"unary": sendUnary, "stream": sendStreamed,
}

// outcome is what the sender of a command learns.
type outcome struct {
	Code     codes.Code
	Message  string
	Details  []string
	Reply    string
	Trailers metadata.MD
}

func (o outcome) mark() string { return strings.Join(o.Trailers[participant.AnswerKey], " ") }

func outcomeOf(st *status.Status, reply []byte, trailers metadata.MD) outcome {
	o := outcome{Code: st.Code(), Message: st.Message(), Trailers: trailers}
	if st.Code() == codes.OK {
		o.Reply = string(reply)
	}
	for _, detail := range st.Proto().GetDetails() {
		o.Details = append(o.Details, detail.String())
	}
	delete(trailers, "content-type")
	delete(trailers, "grpc-status-details-bin")
	return o
}

// sendUnary sends a command as a unary call, as an orchestrator does.
func sendUnary(ctx context.Context, connection *grpc.ClientConn, c *treatyv1.StreamedCommand) outcome {
	greeting := testkit.Greeting()
	direction := map[treatyv1.StepDirection]string{1: "action", 2: "compensation"}[c.GetDirection()]
	saga, _, _ := strings.Cut(c.GetCommandId(), "/steps/")
	scope, epoch := greeting.GetScope(), greeting.GetEpoch()
	if c.GetEpoch() != 0 {
		scope, epoch = c.GetScope(), c.GetEpoch()
	}
	ctx = metadata.AppendToOutgoingContext(ctx,
		participant.SagaKey, saga, participant.CommandIDKey, c.GetCommandId(), participant.DirectionKey, direction,
		participant.AttemptKey, strconv.Itoa(int(c.GetAttempt())),
		participant.EpochKey, strconv.FormatUint(epoch, 10), participant.ScopeKey, scope)
	var more []string
	for key, value := range map[string]string{
		participant.RequestDigestKey: c.GetRequestDigest(), "traceparent": c.GetTraceparent(),
		"tracestate": c.GetTracestate(),
	} {
		if value != "" {
			more = append(more, key, value)
		}
	}
	ctx = metadata.AppendToOutgoingContext(ctx, more...)
	if start := c.GetSagaStartMicros(); start != 0 {
		ctx = metadata.AppendToOutgoingContext(ctx, participant.StartKey, strconv.FormatInt(start, 10))
	}
	if timeout := c.GetTimeoutMicros(); timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(timeout)*time.Microsecond)
		defer cancel()
	}
	// Messages without known fields hold any bytes.
	request, reply := new(emptypb.Empty), new(emptypb.Empty)
	request.ProtoReflect().SetUnknown(c.GetRequest())
	trailers := metadata.MD{}
	err := connection.Invoke(ctx, "/"+c.GetMethod(), request, reply, grpc.Trailer(&trailers))
	return outcomeOf(status.Convert(err), reply.ProtoReflect().GetUnknown(), trailers)
}

// sendStreamed sends a command over a stream of its own.
func sendStreamed(ctx context.Context, connection *grpc.ClientConn, c *treatyv1.StreamedCommand) outcome {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What the call of the stream carries itself is not the commands'.
	ctx = metadata.AppendToOutgoingContext(ctx, participant.StartKey, "1", participant.RequestDigestKey, "x",
		"treaty-other", "x", "traceparent", strings.Replace(traceparent, "4b", "77", 1), "tracestate", "x=y")
	commands, err := testkit.OpenCommands(ctx, connection, testkit.Greeting())
	if err == nil {
		var answer *treatyv1.StreamedAnswer
		if answer, err = commands.Do(ctx, proto.CloneOf(c)); err == nil {
			st, trailers := testkit.StatusOf(answer)
			return outcomeOf(st, answer.GetReply(), trailers)
		}
	}
	return outcomeOf(status.Convert(err), nil, metadata.MD{})
}

// seen is what a handler and the log learn of a command.
type seen struct {
	Command     participant.Command
	IsCommand   bool
	Metadata    metadata.MD
	Method      string
	Peer        string
	HasDeadline bool
	Intercepted string
	Customer    string
	Log         string
}

const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// TestBothWays sends commands as unary calls and over the stream. Neither the sender nor the handler sees a difference.
func TestBothWays(t *testing.T) {
	type handler = func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error)
	failing := func(err error) handler {
		return func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
			return nil, err
		}
	}
	for _, test := range []struct {
		name    string
		handler handler
		change  func(*treatyv1.StreamedCommand)
		options participant.Options
		code    codes.Code
		mark    string
	}{
		{name: "a reply", handler: echoing},
		{name: "everything is sent", handler: echoing, change: func(c *treatyv1.StreamedCommand) {
			c.CommandId, c.Attempt, c.SagaStartMicros = "sagas/other/steps/1.2", 3, 1_700_000_000_000_001
			c.RequestDigest, c.Traceparent, c.Tracestate = strings.Repeat("ab", 32), traceparent, "a=b,c=d"
			c.TimeoutMicros = 60e6
		}},
		{name: "another scope than the greeting's", handler: echoing, change: func(c *treatyv1.StreamedCommand) {
			c.Scope, c.Epoch = "bank/63", 7
		}},
		{name: "a malformed scope", handler: echoing, change: func(c *treatyv1.StreamedCommand) {
			c.Scope, c.Epoch = "bank", 7
		}, code: codes.InvalidArgument, mark: "attempt"},
		{name: "an epoch that is ahead of the clock", handler: echoing, change: func(c *treatyv1.StreamedCommand) {
			c.Scope, c.Epoch = "bank/63", 1<<63-1
		}, code: codes.Unauthenticated, mark: "attempt"},
		{name: "an empty reply", handler: func(
			context.Context, *customerv1.ChangeAddressRequest,
		) (*customerv1.AddressChanged, error) {
			return &customerv1.AddressChanged{}, nil
		}},
		{name: "an empty request", handler: echoing, change: func(c *treatyv1.StreamedCommand) { c.Request = nil }},
		{name: "a compensation", change: func(c *treatyv1.StreamedCommand) {
			c.Method, c.Direction, c.Request = "acme.customer.v1.CustomerService/RestoreAddress", 2, nil
		}},
		{name: "a query", change: func(c *treatyv1.StreamedCommand) {
			c.Method, c.Request = "acme.customer.v1.CustomerService/GetCustomer", nil
		}},
		{name: "a refusal", handler: failing(participant.Refuse(codes.NotFound, "no such \u00e9\n100%", nil)),
			code: codes.NotFound, mark: "attempt"},
		{name: "a refusal with a rejection", handler: failing(participant.Refuse(codes.FailedPrecondition, "closed",
			&customerv1.AddressChanged{Customer: "customers/1"})), code: codes.FailedPrecondition, mark: "attempt"},
		{name: "a stored refusal", code: codes.NotFound, mark: "settled",
			handler: failing(participant.Settle(participant.Refuse(codes.NotFound, "gone", nil)))},
		{name: "a wrapped status", handler: failing(fmt.Errorf("secret: %w", status.Error(codes.Aborted, "conflict"))),
			code: codes.Aborted, mark: "attempt"},
		{name: "an error without a status", handler: failing(errors.New("secret")), code: codes.Internal,
			mark: "attempt", change: func(c *treatyv1.StreamedCommand) { c.Traceparent = traceparent }},
		{name: "an error with large details", handler: failing(participant.Refuse(codes.NotFound, "no",
			&customerv1.AddressChanged{Customer: strings.Repeat("x", 20_000)})), code: codes.NotFound, mark: "attempt"},
		{name: "an unreadable message", handler: failing(status.Error(codes.NotFound, "a\xffb")), code: codes.NotFound,
			mark: "attempt"},
		{name: "a panic", handler: func(
			context.Context, *customerv1.ChangeAddressRequest,
		) (*customerv1.AddressChanged, error) {
			panic("oh")
		}, code: codes.Internal, mark: "attempt"},
		{name: "no reply", handler: failing(nil), code: codes.Internal, mark: "attempt"},
		{name: "a large reply", options: participant.Options{MaxMessageBytes: 1000},
			handler: func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
				return &customerv1.AddressChanged{Customer: strings.Repeat("x", 1000)}, nil
			}, code: codes.Internal, mark: "attempt"},
		{name: "a reply of the largest size", options: participant.Options{MaxMessageBytes: 1000},
			handler: func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error) {
				return &customerv1.AddressChanged{Customer: strings.Repeat("x", 1000-3)}, nil
			}},
		{name: "a refusal that is larger than a reply may be", options: participant.Options{MaxMessageBytes: 100},
			handler: failing(participant.Refuse(codes.NotFound, strings.Repeat("x", 1000), nil)), code: codes.NotFound,
			mark: "attempt"},
		{name: "trailers and headers", handler: func(
			ctx context.Context, request *customerv1.ChangeAddressRequest,
		) (*customerv1.AddressChanged, error) {
			if err := errors.Join(
				grpc.SetTrailer(ctx, metadata.Pairs("x-one", "1", "X-Two", "2", "x-two", "3", "x-bin", "\x00\xff")),
				grpc.SetTrailer(ctx, metadata.Pairs("x-one", "4")),
				grpc.SetHeader(ctx, metadata.Pairs("x-header", "1")),
				grpc.SendHeader(ctx, metadata.Pairs("x-header", "2")),
			); err != nil {
				return nil, err
			}
			return echoing(ctx, request)
		}},
		{name: "the deadline", handler: func(
			ctx context.Context, _ *customerv1.ChangeAddressRequest,
		) (*customerv1.AddressChanged, error) {
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-child.Done()
			return nil, errors.New("interrupted")
		}, change: func(c *treatyv1.StreamedCommand) { c.TimeoutMicros = 500e3 }, code: codes.DeadlineExceeded},
		{name: "an accepted command", change: func(c *treatyv1.StreamedCommand) {
			c.Method, c.Request = identityv1.IdentityService_InspectPassport_FullMethodName[1:], nil
		}, handler: failing(participant.Pending(time.Minute))},
		{name: "a command that is done at once", change: func(c *treatyv1.StreamedCommand) {
			c.Method, c.Request = identityv1.IdentityService_InspectPassport_FullMethodName[1:], nil
		}, handler: failing(nil), mark: "done"},
		{name: "a command id", handler: echoing, change: func(c *treatyv1.StreamedCommand) {
			c.CommandId = "sagas/s/steps/1/2"
		}, code: codes.InvalidArgument, mark: "attempt"},
		{name: "no command id", handler: echoing, change: func(c *treatyv1.StreamedCommand) { c.CommandId = "" },
			code: codes.InvalidArgument, mark: "attempt"},
		{name: "an attempt", handler: echoing, change: func(c *treatyv1.StreamedCommand) { c.Attempt = 0 },
			code: codes.InvalidArgument, mark: "attempt"},
		{name: "a start", handler: echoing, change: func(c *treatyv1.StreamedCommand) { c.SagaStartMicros = -1 },
			code: codes.InvalidArgument, mark: "attempt"},
		{name: "a digest", handler: echoing, change: func(c *treatyv1.StreamedCommand) {
			c.RequestDigest = strings.Repeat("AB", 32)
		}, code: codes.InvalidArgument, mark: "attempt"},
		{name: "an unreadable request", handler: echoing, change: func(c *treatyv1.StreamedCommand) {
			c.Request = []byte{0x0a, 0xff}
		}, code: codes.Internal},
		{name: "an unknown method", change: func(c *treatyv1.StreamedCommand) {
			c.Method = "acme.customer.v1.CustomerService/Do"
		}, code: codes.Unimplemented, mark: "attempt"},
		{name: "an unknown service", change: func(c *treatyv1.StreamedCommand) { c.Method = "acme.X/Do" },
			code: codes.Unimplemented, mark: "attempt"},
		{name: "a method without a handler", change: func(c *treatyv1.StreamedCommand) {
			c.Method, c.Request = "acme.customer.v1.CustomerService/CreateCustomer", nil
		}, code: codes.Unimplemented, mark: "attempt"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := make(map[string]outcome)
			saw := make(map[string]seen)
			for way, send := range ways {
				c := action(t, "customers/1")
				if test.change != nil {
					test.change(c)
				}
				p := &probed{change: test.handler}
				connection := p.serve(t, test.options)
				got[way] = send(t.Context(), connection, c)
				saw[way] = p.end()
			}
			if test.code == codes.DeadlineExceeded {
				// The caller of a unary call ends it itself.
				if o := got["stream"]; o.Code != test.code || o.mark() != "attempt" {
					t.Errorf("over the stream: %v", o)
				}
			} else {
				if o := got["unary"]; o.Code != test.code || o.mark() != test.mark {
					t.Errorf("got %v, want %v with the mark %q", o, test.code, test.mark)
				}
				if diff := cmp.Diff(got["unary"], got["stream"], protocmp.Transform()); diff != "" {
					t.Errorf("what the sender learns (-unary +stream):\n%s", diff)
				}
			}
			if diff := cmp.Diff(saw["unary"], saw["stream"]); diff != "" {
				t.Errorf("what the handler learns (-unary +stream):\n%s", diff)
			}
		})
	}
}

// probed is a participant that remembers what its handlers and its interceptor saw.
type probed struct {
	customerv1.UnimplementedCustomerServiceServer
	identityv1.UnimplementedIdentityServiceServer

	change func(context.Context, *customerv1.ChangeAddressRequest) (*customerv1.AddressChanged, error)

	stop func()
	mu   sync.Mutex
	seen seen
	log  bytes.Buffer
}

// serve serves the participant until end is called.
func (p *probed) serve(t *testing.T, options participant.Options) *grpc.ClientConn {
	t.Helper()
	options.Logger = slog.New(slog.NewTextHandler(&p.log, &slog.HandlerOptions{
		Level: slog.LevelWarn, ReplaceAttr: func(_ []string, attr slog.Attr) slog.Attr {
			if attr.Key == slog.TimeKey || attr.Key == "stack" {
				return slog.Attr{}
			}
			return attr
		},
	}))
	intercepted := func(
		ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		_, isCommand := participant.FromContext(ctx)
		p.note(func(s *seen) { s.Intercepted += fmt.Sprint("1:", info.FullMethod, isCommand, info.Server == p) })
		return handler(ctx, request)
	}
	second := func(
		ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
	) (any, error) {
		reply, err := handler(ctx, request)
		p.note(func(s *seen) { s.Intercepted += fmt.Sprint(" 2:", err) })
		return reply, err
	}
	options.Interceptors = []grpc.UnaryServerInterceptor{intercepted, second}
	server, err := participant.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	identityv1.RegisterIdentityServiceServer(server, p)
	p.stop = start(t, server, p)
	return testkit.Dial(t, server.Addr().String(), grpc.WithAuthority("customers.example"))
}

func (p *probed) note(change func(*seen)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.seen)
}

// end stops the participant and returns what it saw.
func (p *probed) end() seen {
	p.stop()
	p.seen.Log = p.log.String()
	return p.seen
}

func (p *probed) called(ctx context.Context, customer string) {
	p.note(func(s *seen) {
		s.Command, s.IsCommand = participant.FromContext(ctx)
		s.Metadata, _ = metadata.FromIncomingContext(ctx)
		s.Method, _ = grpc.Method(ctx)
		from, _ := peer.FromContext(ctx)
		s.Peer = fmt.Sprintf("%T %T", from.Addr, from.AuthInfo)
		_, s.HasDeadline = ctx.Deadline()
		s.Customer = customer
	})
}

func (p *probed) ChangeAddress(
	ctx context.Context, request *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	p.called(ctx, request.GetCustomer())
	return p.change(ctx, request)
}

func (p *probed) RestoreAddress(
	ctx context.Context, _ *customerv1.RestoreAddressRequest,
) (*customerv1.AddressRestored, error) {
	p.called(ctx, "")
	return &customerv1.AddressRestored{}, nil
}

func (p *probed) GetCustomer(ctx context.Context, _ *customerv1.GetCustomerRequest) (*customerv1.Customer, error) {
	p.called(ctx, "")
	return &customerv1.Customer{Name: "customers/2"}, nil
}

// ListCustomers isn't a command.
func (p *probed) ListCustomers(
	ctx context.Context, _ *customerv1.ListCustomersRequest,
) (*customerv1.ListCustomersResponse, error) {
	p.called(ctx, "")
	return &customerv1.ListCustomersResponse{}, nil
}

// CloseCustomer isn't a command.
func (p *probed) CloseCustomer(ctx context.Context, _ *customerv1.CloseCustomerRequest) (*customerv1.Customer, error) {
	p.called(ctx, "")
	return &customerv1.Customer{}, nil
}

func (p *probed) InspectPassport(
	ctx context.Context, _ *identityv1.InspectPassportRequest,
) (*identityv1.PassportInspected, error) {
	p.called(ctx, "")
	if _, err := p.change(ctx, nil); err != nil {
		return nil, err
	}
	return &identityv1.PassportInspected{}, nil
}

// TestOnlyCommandsAreStreamed asks the stream for methods that aren't commands.
func TestOnlyCommandsAreStreamed(t *testing.T) {
	p := &probed{}
	connection := p.serve(t, participant.Options{})
	for _, method := range []string{
		"acme.customer.v1.CustomerService/ListCustomers", "acme.customer.v1.CustomerService/CloseCustomer",
		"/acme.customer.v1.CustomerService/GetCustomer", "acme.customer.v1.CustomerService/",
		"grpc.health.v1.Health/Check", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"treaty.v1.ParticipantService/Describe", "treaty.v1.ParticipantService/StreamCommands",
	} {
		c := action(t, "")
		c.Method = method
		got := sendStreamed(t.Context(), connection, c)
		if got.Code != codes.Unimplemented || got.mark() != "attempt" {
			t.Errorf("%s: got %v", method, got)
		}
	}
	if saw := p.end(); saw.Method != "" {
		t.Errorf("%s was called", saw.Method)
	}
}

// TestStreamIsServed looks at when the stream is served, and whether Describe says so.
func TestStreamIsServed(t *testing.T) {
	timeout := grpc.ConnectionTimeout(time.Minute)
	small := grpc.MaxSendMsgSize(50) // The message with the greeting is larger.
	for _, test := range []struct {
		name   string
		stream participant.CommandStream
		more   []grpc.ServerOption
		want   bool
	}{
		{"by default", participant.CommandStreamAuto, nil, true},
		{"with gRPC's options", participant.CommandStreamAuto, []grpc.ServerOption{timeout}, false},
		{"on", participant.CommandStreamOn, []grpc.ServerOption{small}, true},
		{"off", participant.CommandStreamOff, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			server, err := participant.NewServer(participant.Options{CommandStream: test.stream}, test.more...)
			if err != nil {
				t.Fatal(err)
			}
			start(t, server, &changer{change: echoing})
			connection := testkit.Dial(t, server.Addr().String())
			described, err := treatyv1.NewParticipantServiceClient(connection).Describe(
				asOrchestrator(t.Context(), "1"), &treatyv1.DescribeRequest{})
			if err != nil {
				t.Fatal(err)
			}
			var told bool
			for _, feature := range described.GetFeatures() {
				told = told || feature == treatyv1.ParticipantFeature_PARTICIPANT_FEATURE_STREAM_COMMANDS
			}
			got := sendStreamed(t.Context(), connection, action(t, ""))
			want := map[bool]codes.Code{true: codes.OK, false: codes.Unimplemented}[test.want]
			if told != test.want || got.Code != want {
				t.Errorf("Describe tells it: %t, a command is answered %v", told, got)
			}
			if got := sendUnary(t.Context(), connection, action(t, "")); got.Code != codes.OK {
				t.Errorf("a unary call is answered %v", got)
			}
		})
	}
}

// TestUntrustedCaller sends commands with a certificate that isn't an orchestrator's.
func TestUntrustedCaller(t *testing.T) {
	ca, directory := testkit.NewAuthority(t), t.TempDir()
	own := ca.Issue(t, "service")
	file := func(name string, content []byte) string {
		testkit.WriteFile(t, directory, name, content)
		return filepath.Join(directory, name)
	}
	var ran atomic.Bool
	server, _ := serve(t, participant.Options{
		TLSCertFile: file("cert.pem", own.CertPEM), TLSKeyFile: file("key.pem", own.KeyPEM),
		TLSClientCAFile: file("ca.pem", ca.PEM()), Orchestrators: []string{"sagas.acme.example"},
	}, &changer{change: func(
		ctx context.Context, request *customerv1.ChangeAddressRequest,
	) (*customerv1.AddressChanged, error) {
		ran.Store(true)
		return echoing(ctx, request)
	}})
	connection := testkit.Dial(t, server.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{RootCAs: ca.Pool, Certificates: []tls.Certificate{ca.Issue(t, "stranger").Certificate}})))
	for way, send := range ways {
		got := send(t.Context(), connection, action(t, ""))
		if got.Code != codes.Unauthenticated || ran.Load() ||
			!strings.Contains(strings.Join(got.Details, ""), "CALLER_NOT_BELIEVED") {
			t.Errorf("%s: got %v, executed: %t", way, got, ran.Load())
		}
	}
}

// TestStaleEpochBothWays sends commands of an epoch that was replaced to a participant with an inbox.
func TestStaleEpochBothWays(t *testing.T) {
	db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(filepath.Join(t.TempDir(), "customer.db")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	box, err := inbox.OpenSQLite(t.Context(), db, inbox.Options{Methods: []string{changeAddress}})
	if err != nil {
		t.Fatal(err)
	}
	var runs atomic.Int32
	server, _ := serve(t, participant.Options{Keepers: []participant.Keeper{box}}, &changer{change: func(
		ctx context.Context, request *customerv1.ChangeAddressRequest,
	) (*customerv1.AddressChanged, error) {
		return inbox.Handle(ctx, box, func(*inbox.Tx) (*customerv1.AddressChanged, error) {
			runs.Add(1)
			return echoing(ctx, request)
		})
	}})
	connection := testkit.Dial(t, server.Addr().String())
	open := func(epoch uint64) (*testkit.Commands, error) {
		greeting := testkit.Greeting()
		greeting.Epoch = epoch
		return testkit.OpenCommands(t.Context(), connection, greeting)
	}
	older, err := open(7)
	if err != nil {
		t.Fatal(err)
	}
	// The greeting alone raises the epoch, also for the streams that are open.
	if _, err := open(8); err != nil {
		t.Fatal(err)
	}
	answer, err := older.Do(t.Context(), action(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	st, _ := testkit.StatusOf(answer)
	_, refused := open(7)
	unary := sendUnary(t.Context(), connection, action(t, ""))
	for what, err := range map[string]error{
		"a command of an open stream": st.Err(), "a greeting": refused,
	} {
		if status.Code(err) != codes.Aborted || reason(err) != "STALE_EPOCH" {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if unary.Code != codes.Aborted || runs.Load() > 0 {
		t.Errorf("a unary call: got %v, executed %d times", unary, runs.Load())
	}
}

// TestCancelledBothWays cancels a command while it is executed.
func TestCancelledBothWays(t *testing.T) {
	entered, ended := make(chan struct{}, 1), make(chan error, 1)
	server, _ := serve(t, participant.Options{}, &changer{change: func(
		ctx context.Context, _ *customerv1.ChangeAddressRequest,
	) (*customerv1.AddressChanged, error) {
		entered <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}})
	connection := testkit.Dial(t, server.Addr().String())
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if got := sendUnary(ctx, connection, action(t, "")); got.Code != codes.Canceled {
		t.Errorf("a unary call: got %v", got)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the context of a unary call has ended with %v", err)
	}
	commands := testkit.MustOpenCommands(t, connection)
	c := action(t, "")
	answers, err := commands.Send(c)
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	if err := commands.SendMessage(&treatyv1.StreamCommandsRequest{Cancelled: []uint64{c.GetNumber()}}); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the context of a streamed command has ended with %v", err)
	}
	if st, _ := testkit.StatusOf(<-answers[0]); st.Code() != codes.Canceled {
		t.Errorf("a streamed command: got %v", st)
	}
}

// TestStopWithStream stops a participant while it executes a command of a stream.
func TestStopWithStream(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	server, stop := serve(t, participant.Options{StopTimeout: time.Minute}, &changer{change: func(
		ctx context.Context, request *customerv1.ChangeAddressRequest,
	) (*customerv1.AddressChanged, error) {
		close(entered)
		<-leave
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return echoing(ctx, request)
	}})
	commands := testkit.MustOpenCommands(t, testkit.Dial(t, server.Addr().String()))
	answers, err := commands.Send(action(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	<-commands.Ending
	if err := commands.Stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	close(leave)
	if answer, ok := <-answers[0]; !ok || answer.GetFailure() != nil {
		t.Errorf("the command in flight: %v, %v", answer, commands.Err())
	}
	<-stopped
}
