package orchestrator_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
)

// TestRefusedParticipantIsExplained connects to participants whose certificates, or the orchestrator's, aren't good
// enough. The saga says why its command isn't sent.
func TestRefusedParticipantIsExplained(t *testing.T) {
	ours, theirs := testkit.NewAuthority(t), testkit.NewAuthority(t)
	as := func(authority *testkit.Authority, names x509.Certificate) testkit.Certificate {
		if names.DNSNames == nil {
			names.DNSNames, names.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		}
		return authority.IssueAs(t, &names)
	}
	now := time.Now()
	past := x509.Certificate{NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}
	future := x509.Certificate{NotBefore: now.Add(time.Hour), NotAfter: now.Add(2 * time.Hour)}
	good := as(ours, x509.Certificate{})
	none := testkit.Certificate{}
	for name, test := range map[string]struct {
		participant, orchestrator testkit.Certificate
		want                      string
	}{
		"expired":       {as(ours, past), good, "it has a certificate that has expired or isn't valid yet"},
		"not yet valid": {as(ours, future), good, "it has a certificate that has expired or isn't valid yet"},
		"another authority": {as(theirs, x509.Certificate{}), good,
			"it has a certificate of an authority that isn't trusted"},
		"another name": {as(ours, x509.Certificate{DNSNames: []string{"other.example"}}), good,
			"it has a certificate for another name"},
		"wrong usage": {as(ours, x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}), good,
			"it has a certificate whose extended key usage isn't that of a server"},
		"no client certificate": {good, none, "it requires a client certificate"},
		"the client's has expired": {good, as(ours, past),
			"it refuses the client certificate, which has expired or isn't valid yet"},
		"the client's is of another authority": {good, as(theirs, x509.Certificate{}),
			"trust the client certificate"}, // if the connection breaks before the alert is read, it "may not"
		"the client's isn't for clients": {good, as(ours, x509.Certificate{
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}), "trust the client certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			w := unopened(t, newParticipants(t, grpc.Creds(credentials.NewTLS(&tls.Config{
				Certificates: []tls.Certificate{test.participant.Certificate},
				ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ours.Pool, MinVersion: tls.VersionTLS12,
			}))))
			params := orchestrator.ParticipantTLS{CAFile: testkit.WriteFile(t, dir, "ca.pem", ours.PEM())}
			if test.orchestrator.CertPEM != nil {
				params.CertFile, params.KeyFile = test.orchestrator.Write(t, dir, "client")
			}
			w.options = append(w.options, orchestrator.WithParticipantTLS(params))
			w.participants.address = strings.Replace(w.participants.address, "127.0.0.1", "localhost", 1)
			w.open()
			request, err := anypb.New(move("one", "Main Street 1"))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
			defer cancel()
			saga, err := w.sagas.CreateSaga(ctx, &treatyv1.CreateSagaRequest{
				Definition: changeAddress, Request: request,
			})
			for err == nil && !strings.Contains(saga.String(), test.want) && ctx.Err() == nil {
				select {
				case <-time.After(10 * time.Millisecond):
				case <-ctx.Done():
				}
				if ctx.Err() == nil {
					saga, err = w.sagas.GetSaga(w.ctx(), &treatyv1.GetSagaRequest{Name: saga.GetName()})
				}
			}
			if err != nil || !strings.Contains(saga.String(), test.want) {
				t.Errorf("the saga doesn't say that %s: %v, %v", test.want, saga, err)
			}
		})
	}
}
