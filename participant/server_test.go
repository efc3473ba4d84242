package participant_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/participant"
)

// fake answers GetCustomer with a function.
type fake struct {
	customerv1.UnimplementedCustomerServiceServer

	get func(context.Context, string) (*customerv1.Customer, error)
}

func (f *fake) GetCustomer(ctx context.Context, r *customerv1.GetCustomerRequest) (*customerv1.Customer, error) {
	return f.get(ctx, r.GetName())
}

// serve starts a server and returns it with a function that stops it and waits.
func serve(
	t *testing.T, options participant.Options, service customerv1.CustomerServiceServer,
) (server *participant.Server, stop func()) {
	t.Helper()
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	server, err := participant.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	return server, start(t, server, service)
}

// start serves until the returned function is called or the test ends.
func start(t testing.TB, server *participant.Server, service customerv1.CustomerServiceServer) (stop func()) {
	t.Helper()
	customerv1.RegisterCustomerServiceServer(server, service)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func TestMoreServerOptions(t *testing.T) {
	var command participant.Command
	server, err := participant.NewServer(participant.Options{MaxMessageBytes: 100,
		Logger: slog.New(slog.DiscardHandler)},
		grpc.ChainUnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo,
			handler grpc.UnaryHandler) (any, error) {
			command, _ = participant.FromContext(ctx)
			if request.(*customerv1.GetCustomerRequest).GetName() == "panic" {
				panic("boom")
			}
			return handler(ctx, request)
		}),
		grpc.MaxRecvMsgSize(10_000),
		grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13})))
	if err != nil {
		t.Fatal(err)
	}
	start(t, server, &fake{get: func(context.Context, string) (*customerv1.Customer, error) {
		return &customerv1.Customer{}, nil
	}})
	client := customerv1.NewCustomerServiceClient(testkit.Dial(t, server.Addr().String()))
	want := participant.Command{
		Saga: "sagas/s", CommandID: "sagas/s/steps/1", Direction: participant.Action, Attempt: 1,
	}
	request := &customerv1.GetCustomerRequest{Name: strings.Repeat("x", 1000)}
	if _, err := client.GetCustomer(want.Outgoing(t.Context()), request); err != nil || command != want {
		t.Errorf("a request over the first limit: %v, command %v", err, command)
	}
	_, err = client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{Name: "panic"})
	if status.Code(err) != codes.Internal {
		t.Errorf("a panic in another interceptor: %v, want INTERNAL", err)
	}
}

func TestLimits(t *testing.T) {
	server, _ := serve(t, participant.Options{MaxMessageBytes: 1000},
		&fake{get: func(context.Context, string) (*customerv1.Customer, error) {
			return &customerv1.Customer{Name: strings.Repeat("x", 2000)}, nil
		}})
	client := customerv1.NewCustomerServiceClient(testkit.Dial(t, server.Addr().String()))
	for name, request := range map[string]string{"request": strings.Repeat("x", 100_000), "reply": ""} {
		_, err := client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{Name: request})
		if status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a large %s: %v, want RESOURCE_EXHAUSTED", name, err)
		}
	}
}

func TestGracefulStop(t *testing.T) {
	for _, test := range []struct {
		name    string
		timeout time.Duration
		code    codes.Code
	}{
		{"in time", time.Minute, codes.OK},
		{"cut off", time.Millisecond, codes.Unavailable},
	} {
		t.Run(test.name, func(t *testing.T) {
			entered, leave := make(chan struct{}), make(chan struct{})
			service := &fake{get: func(ctx context.Context, _ string) (*customerv1.Customer, error) {
				close(entered)
				select {
				case <-leave:
				case <-ctx.Done():
				}
				return &customerv1.Customer{}, nil
			}}
			server, stop := serve(t, participant.Options{StopTimeout: test.timeout}, service)
			connection := testkit.Dial(t, server.Addr().String())
			watch, err := healthgrpc.NewHealthClient(connection).Watch(t.Context(),
				&healthgrpc.HealthCheckRequest{Service: "acme.customer.v1.CustomerService"})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := watch.Recv(); err != nil || got.GetStatus() != healthgrpc.HealthCheckResponse_SERVING {
				t.Fatalf("health: %v, %v", got, err)
			}
			result := make(chan error, 1)
			go func() {
				client := customerv1.NewCustomerServiceClient(connection)
				_, err := client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{})
				result <- err
			}()
			<-entered
			stopped := make(chan struct{})
			go func() { stop(); close(stopped) }()
			if got, err := watch.Recv(); err == nil && got.GetStatus() != healthgrpc.HealthCheckResponse_NOT_SERVING {
				t.Errorf("health while stopping: %v", got)
			}
			if test.code == codes.OK {
				close(leave)
			}
			if err := <-result; status.Code(err) != test.code {
				t.Errorf("the call in flight: %v, want %v", err, test.code)
			}
			<-stopped
		})
	}
}

func TestBadOptions(t *testing.T) {
	taken := testkit.Listen(t)
	garbage := testkit.WriteFile(t, t.TempDir(), "garbage.pem", []byte("garbage"))
	for _, test := range []struct {
		name    string
		options participant.Options
		want    string
	}{
		{"port in use", participant.Options{Listen: taken.Addr().String()}, "the port is in use"},
		{"no port", participant.Options{Listen: "localhost"}, "want host:port"},
		{"plaintext", participant.Options{Listen: "0.0.0.0:0"}, "plaintext is allowed on loopback"},
		{"plaintext on all", participant.Options{Listen: ":0"}, "plaintext is allowed on loopback"},
		{"half of TLS", participant.Options{TLSCertFile: "x"}, "TLSKeyFile"},
		{"client CA alone", participant.Options{TLSClientCAFile: "x"}, "requires TLSCertFile"},
		{"identities without client certificates", participant.Options{
			TLSCertFile: "x", TLSKeyFile: "y", Orchestrators: []string{"sagas.acme.example"},
		}, "requires TLSClientCAFile"},
		{"an empty identity", participant.Options{
			TLSCertFile: "x", TLSKeyFile: "y", TLSClientCAFile: "z", Orchestrators: []string{""},
		}, "is empty"},
		{"TLS and insecure", participant.Options{TLSCertFile: "x", TLSKeyFile: "y", Insecure: true}, "contradict"},
		{"no such file", participant.Options{TLSCertFile: "x", TLSKeyFile: "y"}, "no such file"},
		{"not PEM", participant.Options{TLSCertFile: garbage, TLSKeyFile: garbage}, garbage},
	} {
		if server, err := participant.NewServer(test.options); err == nil {
			t.Errorf("%s: listens on %s", test.name, server.Addr())
		} else if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q in it", test.name, err, test.want)
		}
	}
	_, err := participant.NewServer(participant.Options{Listen: "0.0.0.0:0"})
	if !errors.Is(err, participant.ErrPlaintext) {
		t.Errorf("plaintext: %v, want ErrPlaintext", err)
	}
}

func TestTLS(t *testing.T) {
	ca := testkit.NewAuthority(t)
	directory := t.TempDir()
	file := func(name string) string { return filepath.Join(directory, name) }
	written := time.Now()
	write := func(name string, content []byte) {
		t.Helper()
		testkit.WriteFile(t, directory, name, content)
		written = written.Add(time.Second)
		if err := os.Chtimes(file(name), written, written); err != nil {
			t.Fatal(err)
		}
	}
	first := ca.Issue(t, "service")
	write("cert.pem", first.CertPEM)
	write("key.pem", first.KeyPEM)
	write("ca.pem", ca.PEM())
	server, _ := serve(t, participant.Options{
		Listen:      "0.0.0.0:0",
		TLSCertFile: file("cert.pem"), TLSKeyFile: file("key.pem"), TLSClientCAFile: file("ca.pem"),
	}, &fake{get: func(context.Context, string) (*customerv1.Customer, error) { return &customerv1.Customer{}, nil }})
	_, port, err := net.SplitHostPort(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := ca.Issue(t, "client")
	// call returns the serial number of the server's certificate.
	call := func(own ...tls.Certificate) (serial int64, err error) {
		config := &tls.Config{RootCAs: ca.Pool, Certificates: own, VerifyConnection: func(s tls.ConnectionState) error {
			serial = s.PeerCertificates[0].SerialNumber.Int64()
			return nil
		}}
		connection := testkit.Dial(t, "127.0.0.1:"+port, grpc.WithTransportCredentials(credentials.NewTLS(config)))
		_, err = customerv1.NewCustomerServiceClient(connection).GetCustomer(t.Context(),
			&customerv1.GetCustomerRequest{})
		return serial, err
	}
	expect := func(when string, want testkit.Certificate) {
		t.Helper()
		serial, err := call(client.Certificate)
		if want := want.Leaf.SerialNumber.Int64(); err != nil || serial != want {
			t.Errorf("%s: serial %d, %v; want serial %d", when, serial, err, want)
		}
	}
	expect("with a certificate", first)
	if _, err := call(); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v, want UNAVAILABLE", err)
	}
	stranger := testkit.NewAuthority(t).Issue(t, "client")
	if _, err := call(stranger.Certificate); status.Code(err) != codes.Unavailable {
		t.Errorf("with a stranger's certificate: %v, want UNAVAILABLE", err)
	}
	// A half-written file changes nothing. A complete one does.
	write("cert.pem", first.CertPEM[:100])
	expect("with a half-written file", first)
	second := ca.Issue(t, "service")
	write("key.pem", second.KeyPEM)
	write("cert.pem", second.CertPEM)
	expect("with a new certificate", second)
}
