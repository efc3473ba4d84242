package participant_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
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
	"google.golang.org/grpc/credentials/insecure"
	healthgrpc "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
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
func start(t *testing.T, server *participant.Server, service customerv1.CustomerServiceServer) (stop func()) {
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

func dial(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(creds), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
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
	client := customerv1.NewCustomerServiceClient(dial(t, server.Addr().String(), insecure.NewCredentials()))
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
	client := customerv1.NewCustomerServiceClient(dial(t, server.Addr().String(), insecure.NewCredentials()))
	for name, request := range map[string]string{"request": strings.Repeat("x", 2000), "reply": ""} {
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
			connection := dial(t, server.Addr().String(), insecure.NewCredentials())
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
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	garbage := filepath.Join(t.TempDir(), "garbage.pem")
	if err := os.WriteFile(garbage, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
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
	_, err = participant.NewServer(participant.Options{Listen: "0.0.0.0:0"})
	if !errors.Is(err, participant.ErrPlaintext) {
		t.Errorf("plaintext: %v, want ErrPlaintext", err)
	}
}

// authority makes certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key: key, cert: cert, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a *authority) issue(t *testing.T, serial int64) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "service"},
		NotAfter:    time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	directory := t.TempDir()
	file := func(name string) string { return filepath.Join(directory, name) }
	written := time.Now()
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(file(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		written = written.Add(time.Second)
		if err := os.Chtimes(file(name), written, written); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := ca.issue(t, 2)
	write("cert.pem", cert)
	write("key.pem", key)
	write("ca.pem", ca.pem)
	server, _ := serve(t, participant.Options{
		Listen:      "0.0.0.0:0",
		TLSCertFile: file("cert.pem"), TLSKeyFile: file("key.pem"), TLSClientCAFile: file("ca.pem"),
	}, &fake{get: func(context.Context, string) (*customerv1.Customer, error) { return &customerv1.Customer{}, nil }})
	_, port, err := net.SplitHostPort(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	call := func(own ...tls.Certificate) (serial int64, err error) {
		config := &tls.Config{RootCAs: pool, Certificates: own, VerifyConnection: func(s tls.ConnectionState) error {
			serial = s.PeerCertificates[0].SerialNumber.Int64()
			return nil
		}}
		client := customerv1.NewCustomerServiceClient(dial(t, "127.0.0.1:"+port, credentials.NewTLS(config)))
		_, err = client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{})
		return serial, err
	}
	client, err := tls.X509KeyPair(ca.issue(t, 3))
	if err != nil {
		t.Fatal(err)
	}
	if serial, err := call(client); err != nil || serial != 2 {
		t.Errorf("with a certificate: serial %d, %v", serial, err)
	}
	if _, err := call(); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v, want UNAVAILABLE", err)
	}
	stranger, err := tls.X509KeyPair(newAuthority(t).issue(t, 4))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := call(stranger); status.Code(err) != codes.Unavailable {
		t.Errorf("with a stranger's certificate: %v, want UNAVAILABLE", err)
	}
	// A half-written file changes nothing. A complete one does.
	write("cert.pem", cert[:100])
	if serial, err := call(client); err != nil || serial != 2 {
		t.Errorf("with a half-written file: serial %d, %v", serial, err)
	}
	cert, key = ca.issue(t, 5)
	write("key.pem", key)
	write("cert.pem", cert)
	if serial, err := call(client); err != nil || serial != 5 {
		t.Errorf("with a new certificate: serial %d, %v", serial, err)
	}
}
