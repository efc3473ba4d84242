package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/internal/journal/journaltest"
	"github.com/treatyhq/treaty/orchestrator/internal/server"
)

// TestCertificateExpires keeps a stream open until the client's certificate expires.
func TestCertificateExpires(t *testing.T) {
	authority := testkit.NewAuthority(t)
	expires := time.Now().Add(2 * time.Second).Truncate(time.Second)
	a := newSecureTestServer(t, security{
		server: &tls.Config{
			Certificates: []tls.Certificate{authority.Issue(t, "").Certificate}, MinVersion: tls.VersionTLS12,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authority.Pool, NextProtos: []string{"h2"},
		},
		client: &tls.Config{
			RootCAs: authority.Pool, ServerName: "localhost", MinVersion: tls.VersionTLS12,
			Certificates: []tls.Certificate{authority.IssueAs(t, &x509.Certificate{
				DNSNames: []string{"client.test"}, NotBefore: expires.Add(-time.Hour), NotAfter: expires,
			}).Certificate},
		},
	})
	l := a.listen(&treatyv1.StreamEventsRequest{})
	_, err := l.stream.Recv()
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
	if now := time.Now(); now.Before(expires) {
		t.Errorf("the connection was closed at %v, before %v", now, expires)
	}
}

// TestOldConnection keeps a stream open for longer than a connection may live. The next call gets a new one.
func TestOldConnection(t *testing.T) {
	a := &testServer{t: t, engine: new(fakeEngine), store: new(fakeStore), memory: journaltest.NewMemory()}
	a.store.ChildStore, a.store.EventReader = a.memory, a.memory
	a.engine.publish = a.append
	a.serve(server.Config{
		Engine: a.engine, Store: a.store, Definitions: []string{changeAddress, issueCard, verifyApplicant},
		ConnectionAge: time.Second, ConnectionGrace: 100 * time.Millisecond,
	}, nil)
	a.publishAll(verified(t, "1", "applicants/1"))
	l := a.listen(&treatyv1.StreamEventsRequest{})
	l.expect("1")
	if _, err := l.stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
	if _, err := a.sagas.GetSaga(a.ctx(), &treatyv1.GetSagaRequest{Name: "sagas/a"}); err != nil {
		t.Errorf("the next call: %v", err)
	}
	a.listen(&treatyv1.StreamEventsRequest{}).expect("1")
}
