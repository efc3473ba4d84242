package orchestrator_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator"
)

// Mutual TLS on both sides: participants let in only the orchestrator, the orchestrator only who has a certificate, whose
// subject then stands in the journal.
func TestMutualTLSAllTheWay(t *testing.T) {
	dir := t.TempDir()
	pki := newPKI(t, dir)
	pki.issue(t, "api", "")
	pki.issue(t, "participant", "")
	pki.issue(t, "client", "ada")
	files := func(name string) (cert, key string) {
		return filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	}
	load := func(name string) tls.Certificate {
		cert, key := files(name)
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	ca := filepath.Join(dir, "ca.pem")
	p := newParticipants(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{load("participant")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pki.pool, MinVersion: tls.VersionTLS13,
	})))
	cert, key := files("api")
	ready := make(chan orchestrator.Ready, 1)
	o, err := orchestrator.New(
		orchestrator.WithStore(filepath.Join(dir, "treaty.db")),
		orchestrator.WithParticipant(customerService, p.address),
		orchestrator.WithParticipant(cardService, p.address),
		orchestrator.WithTLS(cert, key), orchestrator.WithClientCA(ca),
		orchestrator.WithParticipantTLS(orchestrator.ParticipantTLS{CAFile: ca, CertFile: cert, KeyFile: key}),
		orchestrator.WithLogger(slog.New(slog.NewTextHandler(t.Output(), nil))),
		orchestrator.WithReady(func(r orchestrator.Ready) { ready <- r }),
	)
	if err != nil {
		t.Fatal(err)
	}
	registerSagas(o)
	listener, err := net.Listen("tcp", "0.0.0.0:0") // TLS may leave this machine
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- o.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if got := (<-ready).Transport; got != "mutual TLS" {
		t.Errorf("transport %q", got)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dial := func(creds credentials.TransportCredentials) treatyv1.SagaServiceClient {
		conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return treatyv1.NewSagaServiceClient(conn)
	}
	call, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	for name, creds := range map[string]credentials.TransportCredentials{
		"plaintext":      insecure.NewCredentials(),
		"no certificate": credentials.NewTLS(&tls.Config{RootCAs: pki.pool, MinVersion: tls.VersionTLS12}),
	} {
		if _, err := dial(creds).ListSagas(call, new(treatyv1.ListSagasRequest)); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	client := dial(credentials.NewTLS(&tls.Config{RootCAs: pki.pool, Certificates: []tls.Certificate{load("client")}, MinVersion: tls.VersionTLS12}))
	request, err := anypb.New(move("one", "P.O. box 1"))
	if err != nil {
		t.Fatal(err)
	}
	p.restores = 1
	created, err := client.CreateSaga(call, &treatyv1.CreateSagaRequest{Definition: changeAddress, Request: request})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := client.WatchSaga(call, &treatyv1.WatchSagaRequest{Name: created.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	for {
		next, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if next.GetSaga().GetState() == treatyv1.SagaState_SAGA_STATE_SUSPENDED {
			break
		}
	}
	resumed, err := client.ResumeSaga(call, &treatyv1.ResumeSagaRequest{
		Name: created.GetName(), Decision: &treatyv1.Decision{Actor: "mallory", Reason: "done by hand"},
		How: &treatyv1.ResumeSagaRequest_MarkDone_{MarkDone: &treatyv1.ResumeSagaRequest_MarkDone{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := resumed.GetSteps()[0].GetDecision().GetActor(); got != "CN=ada" {
		t.Errorf("the journal says %q decided", got)
	}
}

// pki is an authority that issues certificates for this machine into files.
type pki struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newPKI(t *testing.T, dir string) *pki {
	t.Helper()
	p := &pki{dir: dir, pool: x509.NewCertPool()}
	p.cert, p.key = p.write(t, "ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	p.pool.AddCert(p.cert)
	return p
}

func (p *pki) issue(t *testing.T, name, subject string) {
	t.Helper()
	template := &x509.Certificate{
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	template.Subject.CommonName = subject
	p.write(t, name, template)
}

func (p *pki) write(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := p.cert, p.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(filepath.Join(p.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}
