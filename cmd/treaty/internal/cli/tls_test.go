package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// authority is a certificate authority for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		KeyUsage:              x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key,
		pem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign returns a certificate for a name, and its key, in PEM form.
func (a *authority) sign(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: rawKey}))
}

// TestTLS checks that a call succeeds only if both sides trust each other, and that the message names the cause
// otherwise.
func TestTLS(t *testing.T) {
	ours := newAuthority(t)
	certPEM, keyPEM := ours.sign(t, "treaty.test")
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AddCert(ours.cert)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS12,
	})))
	treatyv1.RegisterSagaServiceServer(server, &servertest.Server{})
	gone := make(chan error, 1)
	go func() { gone <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-gone //nolint:errcheck // the server was stopped
	})

	theirs := newAuthority(t)
	ca, stranger := writeFile(t, "ca.pem", ours.pem), writeFile(t, "stranger.pem", theirs.pem)
	strangerPEM, strangerKeyPEM := theirs.sign(t, "treaty.test")
	strangerCert, strangerKey := writeFile(t, "stranger-cert.pem", strangerPEM), writeFile(t, "stranger-key.pem",
		strangerKeyPEM)
	cert, key := writeFile(t, "cert.pem", certPEM), writeFile(t, "key.pem", keyPEM)
	for _, c := range []struct {
		name  string
		flags []string
		code  int
		want  string
	}{
		{"trusted", []string{"--tls-ca", ca, "--tls-cert", cert, "--tls-key", key, "--tls-server-name", "treaty.test"},
			problem.ExitOK, ""},
		{"no client certificate", []string{"--tls-ca", ca, "--tls-server-name", "treaty.test"}, problem.ExitFailure,
			"--tls-cert"},
		{"a stranger's client certificate",
			[]string{"--tls-ca", ca, "--tls-cert", strangerCert, "--tls-key", strangerKey, "--tls-server-name",
				"treaty.test"}, problem.ExitFailure, "--tls-cert"},
		{"another authority", []string{"--tls-ca", stranger, "--tls-server-name", "treaty.test"}, problem.ExitFailure,
			"--tls-ca"},
		{"another name", []string{"--tls-ca", ca, "--tls-server-name", "other.test"}, problem.ExitFailure,
			"--tls-server-name"},
		{"plaintext", nil, problem.ExitFailure, "--tls-ca"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := run(t, setup{args: append([]string{"sagas", "list"}, c.flags...), address: listener.Addr().String()})
			if got.code != c.code || !strings.Contains(got.stderr, c.want) {
				t.Errorf("exit %d, %q, want %d, %q", got.code, got.stderr, c.code, c.want)
			}
		})
	}
	t.Run("suggested commands have the flags", func(t *testing.T) {
		f := servertest.New(t)
		full(t, f)
		got := run(t, setup{args: []string{"sagas", "get", "stuck-2", "--address", f.Address}, address: f.Address})
		if !strings.Contains(got.stdout, "--retry --address ADDRESS\n") {
			t.Errorf("got %s", got.stdout)
		}
	})
}
