package tlsfiles

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
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/treatyhq/treaty/internal/testkit"
)

// authority issues certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{}
	template := template(name)
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	a.cert, a.key = a.issue(t, template)
	return a
}

func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{name},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

// issue signs a certificate. An authority without a certificate signs its own.
func (a *authority) issue(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func write(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// files are the files of one side.
type files struct{ ca, cert, key string }

func newFiles(t *testing.T) files {
	dir := t.TempDir()
	return files{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
}

// renew writes a new certificate for a name, and the authority.
func (f files) renew(t *testing.T, a *authority, name string) {
	t.Helper()
	cert, key := a.issue(t, template(name))
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f.ca, "CERTIFICATE", a.cert.Raw)
	write(t, f.cert, "CERTIFICATE", cert.Raw)
	write(t, f.key, "EC PRIVATE KEY", der)
}

// handshake returns the errors of both sides.
func handshake(t *testing.T, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		defer func() { _ = conn.Close() }()
		s := tls.Server(conn, server)
		if err = s.Handshake(); err == nil {
			_, err = s.Write([]byte{1}) // With TLS 1.3, only this tells a client that its certificate was refused.
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := tls.Client(conn, client)
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	} else {
		_ = conn.Close()
	}
	return clientErr, <-done
}

func TestMutualTLSWithReload(t *testing.T) {
	old := newAuthority(t, "old")
	s, c := newFiles(t), newFiles(t)
	s.renew(t, old, "server.test")
	c.renew(t, old, "client.test")
	server, err := Server(ServerParams{Cert: s.cert, Key: s.key, ClientCA: s.ca, Logger: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	client, err := Client(ClientParams{CA: c.ca, Cert: c.cert, Key: c.key, ServerName: "server.test",
		Logger: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(when string, fine bool) {
		t.Helper()
		clientErr, serverErr := handshake(t, client, server)
		if got := clientErr == nil && serverErr == nil; got != fine {
			t.Fatalf("%s: client %v, server %v", when, clientErr, serverErr)
		}
	}
	expect("at first", true)

	next := newAuthority(t, "next")
	s.renew(t, next, "server.test")
	expect("the server's files changed, the client's didn't", false)
	c.renew(t, next, "client.test")
	expect("all files changed", true)

	if err := os.WriteFile(s.key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("a key half written", true)
	if err := os.Remove(c.ca); err != nil {
		t.Fatal(err)
	}
	expect("a file gone", true)
	s.renew(t, next, "another.test")
	expect("a certificate for another name", false)
}

func TestServerName(t *testing.T) {
	a := newAuthority(t, "ca")
	f := newFiles(t)
	f.renew(t, a, "server.test")
	server, err := Server(ServerParams{Cert: f.cert, Key: f.key})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, configured, target string
		want                     string // part of the client's error; empty for none
	}{
		{"configured", "server.test", "", ""},
		{"from the target", "", "server.test", ""},
		{"configured over the target", "server.test", "10.0.0.1", ""},
		{"another target", "", "evil.test", "not evil.test"},
		{"an address without a name", "", "10.0.0.1", "configure the server name"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client, err := Client(ClientParams{CA: f.ca, ServerName: test.configured})
			if err != nil {
				t.Fatal(err)
			}
			if test.target != "" {
				client = client.Clone()
				client.ServerName = test.target // As gRPC does.
			}
			got, _ := handshake(t, client, server)
			if (got == nil) != (test.want == "") || got != nil && !strings.Contains(got.Error(), test.want) {
				t.Errorf("got %v, want %q", got, test.want)
			}
		})
	}
}

func TestClientWithoutCertificateIsRefused(t *testing.T) {
	a := newAuthority(t, "ca")
	f := newFiles(t)
	f.renew(t, a, "server.test")
	server, err := Server(ServerParams{Cert: f.cert, Key: f.key, ClientCA: f.ca})
	if err != nil {
		t.Fatal(err)
	}
	client, err := Client(ClientParams{CA: f.ca, ServerName: "server.test"})
	if err != nil {
		t.Fatal(err)
	}
	if clientErr, serverErr := handshake(t, client, server); serverErr == nil {
		t.Errorf("accepted; the client says %v", clientErr)
	}
}

func TestBadFiles(t *testing.T) {
	a := newAuthority(t, "ca")
	f := newFiles(t)
	f.renew(t, a, "server.test")
	other := newFiles(t)
	other.renew(t, a, "server.test")
	server := func(p ServerParams) func() (*tls.Config, error) {
		return func() (*tls.Config, error) { return Server(p) }
	}
	client := func(p ClientParams) func() (*tls.Config, error) {
		return func() (*tls.Config, error) { return Client(p) }
	}
	for _, test := range []struct {
		name string
		make func() (*tls.Config, error)
		want string
	}{
		{"no certificate", server(ServerParams{}), "needs a certificate"},
		{"no key", server(ServerParams{Cert: f.cert}), "both or neither"},
		{"no file", server(ServerParams{Cert: "missing.pem", Key: f.key}), "missing.pem"},
		{"another's key", server(ServerParams{Cert: f.cert, Key: other.key}), other.key},
		{
			"a key for an authority",
			server(ServerParams{Cert: f.cert, Key: f.key, ClientCA: f.key}), "no certificate in PEM",
		},
		{"no authority", client(ClientParams{CA: "missing.pem"}), "missing.pem"},
		{"a client's certificate without key", client(ClientParams{Cert: f.cert}), "both or neither"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := test.make(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
