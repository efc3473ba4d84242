package tlsfiles

import (
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/internal/testkit"
)

// files are the files of one side.
type files struct{ ca, cert, key string }

func newFiles(t *testing.T) files {
	dir := t.TempDir()
	return files{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "own.pem"), filepath.Join(dir, "own.key")}
}

// renew writes a new certificate for a name, and the authority.
func (f files) renew(t *testing.T, a *testkit.Authority, name string) {
	t.Helper()
	dir := filepath.Dir(f.ca)
	testkit.WriteFile(t, dir, "ca.pem", a.PEM())
	a.Issue(t, name).Write(t, dir, "own")
}

// handshake returns the errors of both sides.
func handshake(t *testing.T, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	listener := testkit.Listen(t)
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
	old := testkit.NewAuthority(t)
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

	next := testkit.NewAuthority(t)
	s.renew(t, next, "server.test")
	expect("the server's files changed, the client's didn't", false)
	c.renew(t, next, "client.test")
	expect("all files changed", true)

	if err := os.WriteFile(s.key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	expect("a half-written key", true)
	if err := os.Remove(c.ca); err != nil {
		t.Fatal(err)
	}
	expect("a missing file", true)
	s.renew(t, next, "another.test")
	expect("a certificate for another name", false)
}

func TestServerName(t *testing.T) {
	a := testkit.NewAuthority(t)
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
	a := testkit.NewAuthority(t)
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
	a := testkit.NewAuthority(t)
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

// Changed files that are invalid are read again at each handshake, but logged once. The files in use stay in use.
func TestInvalidChangeIsLoggedOnce(t *testing.T) {
	var log strings.Builder
	authority, s := testkit.NewAuthority(t), newFiles(t)
	s.renew(t, authority, "server")
	config, err := Server(ServerParams{Cert: s.cert, Key: s.key, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	handshake := func() {
		t.Helper()
		if cert, err := config.GetCertificate(&tls.ClientHelloInfo{}); err != nil || cert == nil {
			t.Fatalf("no certificate: %v", err)
		}
	}
	warnings := func() int { return strings.Count(log.String(), "changed files are invalid") }
	for range 2 {
		write := []byte("not a certificate")
		if err := os.WriteFile(s.cert, write, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			handshake()
		}
	}
	if got := warnings(); got != 1 {
		t.Errorf("%d warnings, want 1:\n%s", got, log.String())
	}
	s.renew(t, authority, "server")
	handshake()
	if err := os.WriteFile(s.cert, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	handshake()
	if got := warnings(); got != 2 {
		t.Errorf("%d warnings after the files were valid in between, want 2:\n%s", got, log.String())
	}
}
