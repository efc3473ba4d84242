package participant_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
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
	"google.golang.org/grpc/metadata"
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

// buffer is a log that may be written and read at the same time.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// serve starts a server and returns it with what stops it and waits.
func serve(t *testing.T, options participant.Options, service customerv1.CustomerServiceServer) (server *participant.Server, stop func()) {
	t.Helper()
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	server, err := participant.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
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
	return server, stop
}

func dial(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func TestHandlersErrors(t *testing.T) {
	var log buffer
	server, _ := serve(t, participant.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, &fake{get: func(ctx context.Context, name string) (*customerv1.Customer, error) {
		switch name {
		case "panic":
			panic("boom")
		case "plain":
			return nil, errors.New("secret path /var/db")
		case "refused":
			return nil, participant.Refuse(codes.FailedPrecondition, "closed", &customerv1.CustomerClosed{Customer: "customers/1"})
		case "wrapped":
			return nil, fmt.Errorf("secret: %w", participant.Refuse(codes.FailedPrecondition, "closed", nil))
		case "deadline":
			return nil, fmt.Errorf("reading: %w", context.DeadlineExceeded)
		case "database":
			return nil, fmt.Errorf("no such table: %w", status.Error(codes.Unavailable, "the database failed"))
		case "interrupted":
			<-ctx.Done()
			return nil, errors.New("interrupted (9)")
		}
		c, ok := participant.FromContext(ctx)
		return &customerv1.Customer{Name: fmt.Sprint(c.CommandID, ok)}, nil
	}})
	client := customerv1.NewCustomerServiceClient(dial(t, server.Addr().String(), insecure.NewCredentials()))
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	command := participant.Command{Saga: "sagas/s", CommandID: "sagas/s/steps/1", Direction: participant.Action, Attempt: 1}
	ctx := metadata.AppendToOutgoingContext(command.Outgoing(t.Context()), "traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	for _, test := range []struct {
		name    string
		code    codes.Code
		message string
	}{
		{"panic", codes.Internal, "internal error; see the service's log, trace " + trace},
		{"plain", codes.Internal, "internal error; see the service's log, trace " + trace},
		{"refused", codes.FailedPrecondition, "closed"},
		{"wrapped", codes.FailedPrecondition, "closed"},
		{"deadline", codes.DeadlineExceeded, "the call's deadline passed"},
		{"database", codes.Unavailable, "the database failed"},
	} {
		_, err := client.GetCustomer(ctx, &customerv1.GetCustomerRequest{Name: test.name})
		if s := status.Convert(err); s.Code() != test.code || s.Message() != test.message {
			t.Errorf("%s: %v, want %v: %s", test.name, err, test.code, test.message)
		}
	}
	for _, want := range []string{"panic=boom", "secret path /var/db", "no such table", "trace_id=" + trace, "saga=sagas/s", "command_id=sagas/s/steps/1"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
	got, err := client.GetCustomer(ctx, &customerv1.GetCustomerRequest{})
	if err != nil || got.GetName() != "sagas/s/steps/1true" {
		t.Errorf("the command in the context: %v, %v", got, err)
	}
	got, err = client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{})
	if err != nil || got.GetName() != "false" {
		t.Errorf("a person's call: %v, %v", got, err)
	}
	cancelled, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := client.GetCustomer(cancelled, &customerv1.GetCustomerRequest{Name: "interrupted"}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("interrupted by the deadline: %v, want DEADLINE_EXCEEDED", err)
	}
	if strings.Contains(log.String(), "interrupted") {
		t.Errorf("the log has a call that its caller ended:\n%s", log.String())
	}
	bad := metadata.AppendToOutgoingContext(t.Context(), participant.CommandIDKey, "17")
	if _, err := client.GetCustomer(bad, &customerv1.GetCustomerRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("malformed metadata: %v, want INVALID_ARGUMENT", err)
	}
}

func TestLimits(t *testing.T) {
	server, _ := serve(t, participant.Options{MaxMessageBytes: 1000}, &fake{get: func(context.Context, string) (*customerv1.Customer, error) {
		return &customerv1.Customer{Name: strings.Repeat("x", 2000)}, nil
	}})
	client := customerv1.NewCustomerServiceClient(dial(t, server.Addr().String(), insecure.NewCredentials()))
	for name, request := range map[string]string{"request": strings.Repeat("x", 2000), "reply": ""} {
		if _, err := client.GetCustomer(t.Context(), &customerv1.GetCustomerRequest{Name: request}); status.Code(err) != codes.ResourceExhausted {
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
			server, stop := serve(t, participant.Options{StopTimeout: test.timeout}, &fake{get: func(ctx context.Context, _ string) (*customerv1.Customer, error) {
				close(entered)
				select {
				case <-leave:
				case <-ctx.Done():
				}
				return &customerv1.Customer{}, nil
			}})
			connection := dial(t, server.Addr().String(), insecure.NewCredentials())
			watch, err := healthgrpc.NewHealthClient(connection).Watch(t.Context(), &healthgrpc.HealthCheckRequest{Service: "acme.customer.v1.CustomerService"})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := watch.Recv(); err != nil || got.GetStatus() != healthgrpc.HealthCheckResponse_SERVING {
				t.Fatalf("health: %v, %v", got, err)
			}
			result := make(chan error, 1)
			go func() {
				_, err := customerv1.NewCustomerServiceClient(connection).GetCustomer(t.Context(), &customerv1.GetCustomerRequest{})
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
				t.Errorf("the call under way: %v, want %v", err, test.code)
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
	if _, err := participant.NewServer(participant.Options{Listen: "0.0.0.0:0"}); !errors.Is(err, participant.ErrPlaintext) {
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
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "service"}, NotAfter: time.Now().Add(time.Hour),
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
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})
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
		Listen: "0.0.0.0:0", TLSCertFile: file("cert.pem"), TLSKeyFile: file("key.pem"), TLSClientCAFile: file("ca.pem"),
	}, &fake{get: func(context.Context, string) (*customerv1.Customer, error) { return &customerv1.Customer{}, nil }})
	_, port, err := net.SplitHostPort(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	call := func(withCertificate ...tls.Certificate) (serial int64, err error) {
		config := &tls.Config{RootCAs: pool, Certificates: withCertificate, VerifyConnection: func(s tls.ConnectionState) error {
			serial = s.PeerCertificates[0].SerialNumber.Int64()
			return nil
		}}
		_, err = customerv1.NewCustomerServiceClient(dial(t, "127.0.0.1:"+port, credentials.NewTLS(config))).GetCustomer(t.Context(), &customerv1.GetCustomerRequest{})
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
	// A half-written file changes nothing, a whole one does.
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
