package orchestrator_test

import (
	"context"
	"crypto/tls"
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
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
)

// Mutual TLS on both sides: participants admit only the orchestrator, and the orchestrator admits only clients with a
// certificate, whose subject it records in the journal.
func TestMutualTLSAllTheWay(t *testing.T) {
	dir := t.TempDir()
	authority := testkit.NewAuthority(t)
	ca := testkit.WriteFile(t, dir, "ca.pem", authority.PEM())
	cert, key := authority.Issue(t, "").Write(t, dir, "api")
	p := newParticipants(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{authority.Issue(t, "").Certificate},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool, MinVersion: tls.VersionTLS13,
	})))
	ready := make(chan orchestrator.Ready, 1)
	o, err := orchestrator.New(
		orchestrator.WithStore(filepath.Join(dir, "treaty.db")),
		orchestrator.WithParticipant(customerService, p.address),
		orchestrator.WithParticipant(cardService, p.address),
		orchestrator.WithTLS(cert, key), orchestrator.WithClientCA(ca), orchestrator.WithOpenAccess(),
		orchestrator.WithParticipantTLS(orchestrator.ParticipantTLS{CAFile: ca, CertFile: cert, KeyFile: key}),
		orchestrator.WithLogger(testkit.Logger(t)),
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
		return treatyv1.NewSagaServiceClient(testkit.Dial(t, "127.0.0.1:"+port, grpc.WithTransportCredentials(creds)))
	}
	call, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	for name, creds := range map[string]credentials.TransportCredentials{
		"plaintext":      insecure.NewCredentials(),
		"no certificate": credentials.NewTLS(&tls.Config{RootCAs: authority.Pool, MinVersion: tls.VersionTLS12}),
	} {
		if _, err := dial(creds).ListSagas(call,
			new(treatyv1.ListSagasRequest)); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
	client := dial(credentials.NewTLS(&tls.Config{
		RootCAs: authority.Pool, Certificates: []tls.Certificate{authority.Issue(t, "ada").Certificate},
		MinVersion: tls.VersionTLS12,
	}))
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
	decided, ada := resumed.GetSteps()[0].GetDecision(), "x509:CN=authority:CN=ada"
	if decided.GetPrincipal() != ada || decided.GetActor() != "mallory" || resumed.GetPrincipal() != ada {
		t.Errorf("the journal says that %v decided, and %q started the saga", decided, resumed.GetPrincipal())
	}
}

// TestTLSWarningsGoToTheLog breaks a certificate's file. The warning goes to the orchestrator's own log, in its format.
func TestTLSWarningsGoToTheLog(t *testing.T) {
	dir := t.TempDir()
	authority := testkit.NewAuthority(t)
	cert, key := authority.Issue(t, "").Write(t, dir, "api")
	w := unopened(t, newParticipants(t))
	log := new(sharedLog)
	w.options = []orchestrator.Option{
		orchestrator.WithTLS(cert, key), orchestrator.WithLogger(slog.New(slog.NewJSONHandler(log, nil))),
	}
	w.open()
	if err := os.WriteFile(cert, []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	creds := credentials.NewTLS(&tls.Config{RootCAs: authority.Pool, MinVersion: tls.VersionTLS12})
	client := treatyv1.NewSagaServiceClient(testkit.Dial(t, w.ready.Address, grpc.WithTransportCredentials(creds)))
	if _, err := client.ListSagas(w.ctx(), new(treatyv1.ListSagasRequest)); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); !strings.Contains(text, `"level":"WARN"`) || !strings.Contains(text, cert) {
		t.Errorf("the log has no warning in JSON about %s:\n%s", cert, text)
	}
}

// sharedLog collects a log that several goroutines write.
type sharedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds to the log.
func (l *sharedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns the log.
func (l *sharedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
