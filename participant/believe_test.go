package participant_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
	"github.com/treatyhq/treaty/participant/inbox"
	"github.com/treatyhq/treaty/participant/participanttest"
)

const (
	spiffeID = "spiffe://acme.example/sagas"
	dnsName  = "sagas.acme.example"
)

// believing is a participant with an inbox and a stream, which counts what reaches its handlers.
type believing struct {
	customerv1.UnimplementedCustomerServiceServer

	inbox  *inbox.Inbox
	ledger string // path of the database
	runs   atomic.Int32
	frames atomic.Int32
}

func newBelieving(t *testing.T) *believing {
	t.Helper()
	b := &believing{ledger: filepath.Join(t.TempDir(), "customer.db")}
	db, err := inbox.OpenSQLiteDB(inbox.SQLiteDSN(b.ledger))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if b.inbox, err = inbox.OpenSQLite(t.Context(), db, inbox.Options{Methods: []string{changeAddress}}); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *believing) ChangeAddress(
	ctx context.Context, request *customerv1.ChangeAddressRequest,
) (*customerv1.AddressChanged, error) {
	b.runs.Add(1)
	return inbox.Handle(ctx, b.inbox, func(*inbox.Tx) (*customerv1.AddressChanged, error) {
		return &customerv1.AddressChanged{Customer: request.GetCustomer()}, nil
	})
}

// GetCustomer is an ordinary call.
func (b *believing) GetCustomer(context.Context, *customerv1.GetCustomerRequest) (*customerv1.Customer, error) {
	return &customerv1.Customer{}, nil
}

// echo is a bidirectional stream that returns what it receives.
var echo = grpc.ServiceDesc{
	ServiceName: "acme.test.v1.Echo", HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName: "Echo", ServerStreams: true, ClientStreams: true,
		Handler: func(server any, stream grpc.ServerStream) error {
			for {
				frame := new(emptypb.Empty)
				switch err := stream.RecvMsg(frame); {
				case errors.Is(err, io.EOF):
					return nil
				case err != nil:
					return err
				}
				server.(*believing).frames.Add(1)
				if err := stream.SendMsg(frame); err != nil {
					return err
				}
			}
		},
	}},
}

func (b *believing) register(server grpc.ServiceRegistrar) {
	customerv1.RegisterCustomerServiceServer(server, b)
	server.RegisterService(&echo, b)
}

// answered is what became of the calls of one caller.
type answered struct {
	command, unknown, stream, describe, list, closing error
	marks                                             [2]string // of command and unknown
	ordinary                                          error
}

// call makes all kinds of calls as one caller. The command and its close name different steps.
func call(t *testing.T, connection *grpc.ClientConn) answered {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out answered
	customers := customerv1.NewCustomerServiceClient(connection)
	action := participanttest.Action(ctx, "s", 1)
	var trailer metadata.MD
	_, out.command = customers.ChangeAddress(action, &customerv1.ChangeAddressRequest{}, grpc.Trailer(&trailer))
	out.marks[0] = strings.Join(trailer[participant.AnswerKey], " ")
	out.unknown = connection.Invoke(action, "/acme.customer.v1.CustomerService/Gone", new(emptypb.Empty),
		new(emptypb.Empty), grpc.Trailer(&trailer))
	out.marks[1] = strings.Join(trailer[participant.AnswerKey], " ")
	out.stream = exchange(action, connection)

	service := treatyv1.NewParticipantServiceClient(connection)
	asked := asOrchestrator(ctx, "7")
	_, out.describe = service.Describe(asked, &treatyv1.DescribeRequest{})
	_, out.list = service.ListCommands(asked, &treatyv1.ListCommandsRequest{Sagas: []string{"sagas/s"}})
	_, out.closing = service.CloseCommand(asked, &treatyv1.CloseCommandRequest{
		CommandId: "sagas/s/steps/2", Method: changeAddress, SagaStart: timestamppb.Now(),
	})
	_, out.ordinary = customers.GetCustomer(ctx, &customerv1.GetCustomerRequest{})
	return out
}

// exchange sends three frames over a stream, one after the other was answered. A frame that isn't answered doesn't keep
// it from sending the next.
func exchange(ctx context.Context, connection *grpc.ClientConn) error {
	stream, err := connection.NewStream(ctx, &echo.Streams[0], "/acme.test.v1.Echo/Echo")
	if err != nil {
		return err
	}
	for range 3 {
		_ = stream.SendMsg(new(emptypb.Empty)) // RecvMsg says why it fails
		if failed := stream.RecvMsg(new(emptypb.Empty)); failed != nil {
			err = failed
		}
	}
	_ = stream.CloseSend()
	return err
}

// check compares what became of a caller's calls with what should have.
func (b *believing) check(t *testing.T, got answered, believed bool) {
	t.Helper()
	commands := map[string]error{"a command": got.command, "a stream": got.stream, "Describe": got.describe,
		"ListCommands": got.list, "CloseCommand": got.closing}
	if got.ordinary != nil {
		t.Errorf("a call without a command: %v", got.ordinary)
	}
	ledger, err := participanttest.ReadLedger(t.Context(), b.ledger)
	if err != nil {
		t.Fatal(err)
	}
	if believed {
		for what, err := range commands {
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if status.Code(got.unknown) != codes.Unimplemented || got.marks[1] != "attempt" {
			t.Errorf("a method that isn't served: %v, marked %q", got.unknown, got.marks[1])
		}
		if b.runs.Load() != 1 || b.frames.Load() != 3 || len(ledger) != 2 {
			t.Errorf("the handler ran %d times and got %d frames; the inbox has %d rows", b.runs.Load(),
				b.frames.Load(), len(ledger))
		}
		return
	}
	commands["a method that isn't served"] = got.unknown
	for what, err := range commands {
		if status.Code(err) != codes.Unauthenticated || reason(err) != "CALLER_NOT_BELIEVED" {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got.marks != [2]string{"attempt", "attempt"} {
		t.Errorf("the marks are %q", got.marks)
	}
	if b.runs.Load() != 0 || b.frames.Load() != 0 || len(ledger) != 0 {
		t.Errorf("the handler ran %d times and got %d frames; the inbox has %d rows", b.runs.Load(), b.frames.Load(),
			len(ledger))
	}
	heard, err := b.inbox.Hear(t.Context(), participant.Caller{Scope: "/0", Epoch: 1}, &treatyv1.DescribeRequest{})
	if err != nil || heard != nil {
		t.Errorf("the inbox heard %v, %v", heard, err)
	}
}

// names returns a certificate's alternative names.
func names(t *testing.T, commonName, uri string, dns ...string) *x509.Certificate {
	t.Helper()
	named := &x509.Certificate{Subject: pkix.Name{CommonName: commonName}, DNSNames: dns}
	if uri != "" {
		parsed, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		named.URIs = []*url.URL{parsed}
	}
	return named
}

// TestBelieve makes calls over mutual TLS with different certificates to participants that believe different
// orchestrators.
func TestBelieve(t *testing.T) {
	authority := testkit.NewAuthority(t)
	dir := t.TempDir()
	clientCA := testkit.WriteFile(t, dir, "ca.pem", authority.PEM())
	cert, key := authority.Issue(t, "").Write(t, dir, "participant")
	both := []string{spiffeID, dnsName}
	for _, test := range []struct {
		name       string
		identities []string
		caller     *x509.Certificate
		believed   bool
	}{
		{"the SPIFFE id", both, names(t, "", spiffeID), true},
		{"the DNS name", both, names(t, "", "", dnsName), true},
		{"the DNS name among others", both, names(t, "", "spiffe://acme.example/x", "a", dnsName), true},
		{"the common name of a certificate without other names", both, names(t, dnsName, ""), true},
		{"another SPIFFE id of the same authority", both, names(t, "", "spiffe://acme.example/customer"), false},
		{"a SPIFFE id that begins like it", both, names(t, "", spiffeID+"/x"), false},
		{"another DNS name", both, names(t, "", "", "customer.acme.example"), false},
		{"a wildcard for it", both, names(t, "", "", "*.acme.example"), false},
		{"its common name, but another DNS name", both, names(t, dnsName, "", "customer.acme.example"), false},
		{"its SPIFFE id as the common name", both, names(t, spiffeID, ""), false},
		{"its SPIFFE id as a DNS name", both, names(t, "", "", spiffeID), false},
		{"no name at all", both, names(t, "", ""), false},
		{"any certificate when nothing is configured", nil, names(t, "", "", "customer.acme.example"), true},
		{"any certificate when all are believed", []string{participant.AnyCaller}, names(t, "x", ""), true},
		{"a certificate for every name", both, names(t, "", "", "*"), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBelieving(t)
			server, err := participant.NewServer(participant.Options{
				TLSCertFile: cert, TLSKeyFile: key, TLSClientCAFile: clientCA, Orchestrators: test.identities,
				Keepers: []participant.Keeper{b.inbox}, StopTimeout: time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			server.RegisterService(&echo, b)
			stop := start(t, server, b)
			defer stop()
			connection := testkit.Dial(t, server.Addr().String(),
				grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
					RootCAs: authority.Pool, MinVersion: tls.VersionTLS12,
					Certificates: []tls.Certificate{authority.IssueAs(t, test.caller).Certificate},
				})))
			got := call(t, connection)
			_ = connection.Close()
			b.check(t, got, test.believed)
		})
	}
}

// elsewhere accepts connections that seem to come from another machine.
type elsewhere struct{ net.Listener }

func (e elsewhere) Accept() (net.Conn, error) {
	conn, err := e.Listener.Accept()
	return farConn{conn}, err
}

type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1234} }

// TestBelieveOtherTransports makes calls to servers that the team has configured itself, from this machine and
// from another one.
func TestBelieveOtherTransports(t *testing.T) {
	authority := testkit.NewAuthority(t)
	serverTLS := &tls.Config{
		Certificates: []tls.Certificate{authority.Issue(t, "").Certificate}, MinVersion: tls.VersionTLS12,
		// A certificate is asked for, and isn't verified.
		ClientAuth: tls.RequestClientCert,
	}
	clientTLS := credentials.NewTLS(&tls.Config{
		RootCAs: authority.Pool, MinVersion: tls.VersionTLS12,
		Certificates: []tls.Certificate{testkit.NewAuthority(t).IssueAs(t, names(t, "", spiffeID)).Certificate},
	})
	for _, test := range []struct {
		name     string
		trust    participant.Trust
		tls, far bool
		believed bool
	}{
		{"plaintext on this machine", participant.Trust{}, false, false, true},
		{"plaintext from another machine", participant.Trust{}, false, true, false},
		{"plaintext on this machine when identities are configured", participant.Believe(spiffeID), false, false,
			false},
		{"plaintext from another machine when all are believed", participant.Believe(participant.AnyCaller), false,
			true, true},
		{"TLS with a certificate that isn't verified", participant.Believe(spiffeID), true, false, false},
		{"TLS from another machine with a certificate that isn't verified", participant.Trust{}, true, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBelieving(t)
			options, dial := []grpc.ServerOption(nil), []grpc.DialOption(nil)
			if test.tls {
				options = append(options, grpc.Creds(credentials.NewTLS(serverTLS)))
				dial = append(dial, grpc.WithTransportCredentials(clientTLS))
			}
			server := b.ownServer(test.trust, options...)
			listener := testkit.Listen(t)
			address := listener.Addr().String()
			if test.far {
				listener = elsewhere{listener}
			}
			served := make(chan error, 1)
			go func() { served <- server.Serve(listener) }()
			connection := testkit.Dial(t, address, dial...)
			got := call(t, connection)
			_ = connection.Close()
			server.Stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
			b.check(t, got, test.believed)
		})
	}
}

// ownServer returns a server that wasn't made by NewServer.
func (b *believing) ownServer(trust participant.Trust, options ...grpc.ServerOption) *grpc.Server {
	server := grpc.NewServer(append(options,
		grpc.ChainUnaryInterceptor(participant.UnaryServerInterceptor(nil, trust)),
		grpc.ChainStreamInterceptor(participant.StreamServerInterceptor(nil, trust)),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			stream.SetTrailer(metadata.Pairs(participant.AnswerKey, "attempt"))
			return status.Error(codes.Unimplemented, "not served")
		}))...)
	b.register(server)
	participant.RegisterParticipantService(server, func() []string {
		return []string{customerv1.CustomerService_ServiceDesc.ServiceName}
	}, b.inbox)
	return server
}

// TestBelieveBehindHTTP makes calls to a gRPC server that an HTTP server calls, as one that serves both does. gRPC then
// knows the caller's address only as text.
func TestBelieveBehindHTTP(t *testing.T) {
	for _, test := range []struct {
		name     string
		from     string
		believed bool
	}{
		{"this machine", "127.0.0.1:1234", true},
		{"this machine over IPv6", "[::1]:1234", true},
		{"this machine over a mapped address", "[::ffff:127.0.0.1]:1234", true},
		{"another machine", "192.0.2.1:1234", false},
		{"another machine over IPv6", "[2001:db8::1]:1234", false},
		{"nobody knows where", "@", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBelieving(t)
			grpcServer := b.ownServer(participant.Trust{})
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.RemoteAddr, r.TLS = test.from, nil
				grpcServer.ServeHTTP(w, r)
			}))
			server.EnableHTTP2 = true
			server.StartTLS()
			defer server.Close()
			roots := x509.NewCertPool()
			roots.AddCert(server.Certificate())
			connection := testkit.Dial(t, server.Listener.Addr().String(),
				grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
					RootCAs: roots, MinVersion: tls.VersionTLS12,
				})))
			got := call(t, connection)
			_ = connection.Close()
			b.check(t, got, test.believed)
		})
	}
}

// TestWarnsOfCallers sends commands from many machines that aren't believed, each of them twice.
func TestWarnsOfCallers(t *testing.T) {
	for _, test := range []struct{ callers, want int }{{1, 1}, {3, 3}, {1000, 1000}, {1500, 1000}} {
		var log bytes.Buffer
		intercept := participant.UnaryServerInterceptor(slog.New(slog.NewTextHandler(&log, nil)))
		for i := range 2 * test.callers {
			from := &net.TCPAddr{IP: net.IPv4(192, 0, byte(i/2/256), byte(i/2%256)), Port: i}
			ctx := metadata.NewIncomingContext(peer.NewContext(t.Context(), &peer.Peer{Addr: from}),
				metadata.Pairs(participant.CommandIDKey, "sagas/s/steps/1"))
			_, err := intercept(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/acme/Do"}, nil)
			if status.Code(err) != codes.Unauthenticated {
				t.Fatal(err)
			}
		}
		if got := strings.Count(log.String(), "isn't believed"); got != test.want {
			t.Errorf("%d callers: %d warnings, want %d", test.callers, got, test.want)
		}
	}
}
