package server_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// lines is a log that tests read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	came chan struct{} // holds a token after each line
}

func newLines() *lines { return &lines{came: make(chan struct{}, 100)} }

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(line)
	select {
	case l.came <- struct{}{}:
	default:
	}
	return len(line), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestRefusedHandshakes connects with certificates that aren't good enough. The log says once why each was refused.
func TestRefusedHandshakes(t *testing.T) {
	ours, theirs := testkit.NewAuthority(t), testkit.NewAuthority(t)
	from := func(authority *testkit.Authority, as x509.Certificate) []tls.Certificate {
		as.DNSNames = []string{"client.test"}
		return []tls.Certificate{authority.IssueAs(t, &as).Certificate}
	}
	now := time.Now()
	config := func(certificates []tls.Certificate) *tls.Config {
		return &tls.Config{
			Certificates: certificates, RootCAs: ours.Pool, ServerName: "localhost", NextProtos: []string{"h2"},
			MinVersion: tls.VersionTLS12,
		}
	}
	for name, test := range map[string]struct {
		client *tls.Config // nil: plaintext
		want   string      // in the log; empty: nothing
	}{
		"expired": {config(from(ours, x509.Certificate{
			NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour),
		})), `cause="its certificate has expired"`},
		"not yet valid": {config(from(ours, x509.Certificate{
			NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour),
		})), `cause="its certificate isn't valid yet"`},
		"wrong authority": {config(from(theirs, x509.Certificate{})),
			`cause="its certificate is of an authority that isn't trusted"`},
		"wrong usage": {config(from(ours, x509.Certificate{
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})), `cause="its certificate's extended key usage isn't that of a client"`},
		"no certificate": {config(nil), `cause="it has no certificate"`},
		"doesn't trust the server": {&tls.Config{RootCAs: theirs.Pool, ServerName: "localhost",
			MinVersion: tls.VersionTLS12}, `cause="it refuses this server's certificate"`},
		"plaintext":       {nil, `cause="it uses plaintext, and this server TLS"`},
		"a good one":      {config(from(ours, x509.Certificate{})), ""},
		"one that leaves": {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			log := newLines()
			a := &testServer{t: t, engine: new(fakeEngine), store: new(fakeStore)}
			a.serve(server.Config{
				Engine: a.engine, Store: a.store, Logger: slog.New(slog.NewTextHandler(log, nil)),
				TLS: &tls.Config{
					Certificates: []tls.Certificate{ours.Issue(t, "").Certificate}, MinVersion: tls.VersionTLS12,
					ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool, NextProtos: []string{"h2"},
				},
			}, nil)
			for range 3 {
				conn, err := new(net.Dialer).DialContext(a.ctx(), "tcp", a.conn.Target())
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case test.client != nil:
					conn = tls.Client(conn, test.client)
					_, _ = conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
				case test.want != "":
					_, _ = conn.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))
				}
				if test.want != "" {
					_, _ = io.Copy(io.Discard, conn) // until the server has closed it
				}
				_ = conn.Close()
			}
			if test.want == "" {
				a.server.Close() // which waits for the connections
				if strings.Contains(log.String(), "refused") {
					t.Errorf("the log: %s", log)
				}
				return
			}
			select {
			case <-log.came:
			case <-a.ctx().Done():
			}
			if n := strings.Count(log.String(), "a connection was refused"); n != 1 {
				t.Errorf("%d lines, want 1: %s", n, log)
			}
			if !strings.Contains(log.String(), test.want) || !strings.Contains(log.String(), "from=127.0.0.1") {
				t.Errorf("the log doesn't say %s: %s", test.want, log)
			}
			if regexp.MustCompile(`PRIVATE|BEGIN`).MatchString(log.String()) {
				t.Errorf("the log has a secret: %s", log)
			}
		})
	}
}
