package orchestrator_test

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/participant"
)

// callers are the certificates that participants have seen.
type callers struct {
	mu      sync.Mutex
	current string // serial number of the certificate that is waited for
	seen    chan struct{}
}

// intercept notes who calls.
func (c *callers) intercept(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	if p, ok := peer.FromContext(ctx); ok {
		if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
			c.note(info.State.PeerCertificates[0])
		}
	}
	return handle(ctx, request)
}

func (c *callers) note(certificate *x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen != nil && certificate.SerialNumber.String() == c.current {
		close(c.seen)
		c.seen = nil
	}
}

// expect returns a channel that is closed when somebody calls with a certificate.
func (c *callers) expect(certificate *x509.Certificate) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current, c.seen = certificate.SerialNumber.String(), make(chan struct{})
	return c.seen
}

// awaitedLog waits for a text in a log.
type awaitedLog struct {
	text  string
	found chan struct{} // closed when the text has come
	once  sync.Once
}

// Write implements io.Writer.
func (l *awaitedLog) Write(p []byte) (int, error) {
	if strings.Contains(string(p), l.text) {
		l.once.Do(func() { close(l.found) })
	}
	return len(p), nil
}

// The orchestrator's certificate is renewed, its authority is replaced, and by mistake it becomes another's, while
// sagas run. Participants execute nothing for a caller that they don't believe, and no saga is undone for it.
func TestRotatesCertificate(t *testing.T) {
	const identity = "spiffe://acme.example/sagas"
	dir := t.TempDir()
	old, next := testkit.NewAuthority(t), testkit.NewAuthority(t)
	issue := func(authority *testkit.Authority, id string) testkit.Certificate {
		uri, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		return authority.IssueAs(t, &x509.Certificate{URIs: []*url.URL{uri}})
	}
	clientCA := testkit.WriteFile(t, dir, "clients.pem", old.PEM())
	serverCA := testkit.WriteFile(t, dir, "servers.pem", old.PEM())
	serverCert, serverKey := old.Issue(t, "").Write(t, dir, "participant")
	cert, key := issue(old, identity).Write(t, dir, "orchestrator")

	seen := new(callers)
	refusals := &awaitedLog{text: "isn't believed", found: make(chan struct{})}
	p := &participants{held: make(chan struct{}, 10)}
	server, err := participant.NewServer(participant.Options{
		TLSCertFile: serverCert, TLSKeyFile: serverKey, TLSClientCAFile: clientCA, Orchestrators: []string{identity},
		Interceptors: []grpc.UnaryServerInterceptor{seen.intercept}, CommandStream: participant.CommandStreamOn,
		Logger: slog.New(slog.NewTextHandler(refusals, nil)),
	}, grpc.KeepaliveParams(keepalive.ServerParameters{
		MaxConnectionAge: 100 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Second,
	}))
	if err != nil {
		t.Fatal(err)
	}
	customerv1.RegisterCustomerServiceServer(server, p)
	cardv1.RegisterCardServiceServer(server, p)
	serving, stopServing := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(serving) }()
	t.Cleanup(func() {
		stopServing()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	p.address = server.Addr().String()
	w := unopened(t, p)
	w.options = []orchestrator.Option{orchestrator.WithParticipantTLS(orchestrator.ParticipantTLS{
		CAFile: serverCA, CertFile: cert, KeyFile: key,
	})}
	w.open()

	ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
	defer stop()
	var load sync.WaitGroup
	var ended atomic.Int64
	loading, finish := context.WithCancel(ctx)
	for range 8 {
		load.Go(func() {
			for loading.Err() == nil {
				if _, err := w.acme.ChangeAddress(ctx, move("", "Main Street 1")); err != nil {
					t.Errorf("a saga failed: %v", err)
					return
				}
				ended.Add(1)
			}
		})
	}
	// rotate replaces the certificate and waits until participants see it.
	rotate := func(what string, certificate testkit.Certificate) {
		t.Helper()
		called := seen.expect(certificate.Leaf)
		certificate.Write(t, dir, "orchestrator")
		select {
		case <-called:
		case <-ctx.Done():
			t.Fatalf("%s: participants never saw the certificate", what)
		}
	}
	rotate("renewed", issue(old, identity))
	testkit.WriteFile(t, dir, "clients.pem", append(old.PEM(), next.PEM()...))
	rotate("of another authority", issue(next, identity))
	testkit.WriteFile(t, dir, "clients.pem", next.PEM())
	before := ended.Load()
	issue(next, "spiffe://acme.example/other").Write(t, dir, "orchestrator")
	select {
	case <-refusals.found:
	case <-ctx.Done():
		t.Fatal("participants have refused nobody")
	}
	rotate("corrected", issue(next, identity))
	finish()
	load.Wait()
	if ended.Load() <= before {
		t.Error("no saga has ended after the mistake")
	}
	if calls := p.seen(); strings.Contains(calls, "Restore") {
		t.Error("a step was undone")
	}
	t.Logf("%d sagas ended", ended.Load())
}
