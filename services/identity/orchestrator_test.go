package main

import (
	"context"
	"crypto/tls"
	"flag"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
)

func TestDialingTheOrchestrator(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "ca.pem")
	for _, test := range []struct {
		name              string
		orchestrator      orchestrator
		plaintextAnywhere bool
		want              string // part of the error; empty for none
	}{
		{name: "on this machine", orchestrator: orchestrator{address: "127.0.0.1:7080"}},
		{name: "on this machine by name", orchestrator: orchestrator{address: "localhost:7080"}},
		{name: "on this machine by IPv6", orchestrator: orchestrator{address: "[::1]:7080"}},
		{name: "elsewhere", orchestrator: orchestrator{address: "192.0.2.1:7080"},
			want: "plaintext is allowed on loopback addresses only"},
		{name: "elsewhere by name", orchestrator: orchestrator{address: "orchestrator:7080"},
			want: "plaintext is allowed on loopback addresses only"},
		{name: "elsewhere, insecure", orchestrator: orchestrator{address: "192.0.2.1:7080"}, plaintextAnywhere: true},
		{name: "without a port", orchestrator: orchestrator{address: "127.0.0.1"},
			want: "plaintext is allowed on loopback addresses only"},
		{name: "authorities missing", orchestrator: orchestrator{address: "192.0.2.1:7080", authorities: missing},
			want: missing},
		{name: "a certificate without its key", orchestrator: orchestrator{address: "192.0.2.1:7080",
			authorities: missing, certificate: missing}, want: "belong together"},
		{name: "a certificate for plaintext", orchestrator: orchestrator{address: "127.0.0.1:7080",
			certificate: missing, key: missing}, want: "requires --orchestrator-tls-ca"},
	} {
		t.Run(test.name, func(t *testing.T) {
			connection, err := test.orchestrator.dial(test.plaintextAnywhere)
			if err == nil {
				if err := connection.Close(); err != nil {
					t.Error(err)
				}
			}
			if got := err != nil; got != (test.want != "") || got && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error about %q", err, test.want)
			}
		})
	}
}

// completions is an orchestrator that remembers who completed a step.
type completions struct {
	treatyv1.UnimplementedSagaServiceServer

	callers chan string
}

func (c *completions) CompleteStep(
	ctx context.Context, _ *treatyv1.CompleteStepRequest,
) (*treatyv1.CompleteStepResponse, error) {
	p, _ := peer.FromContext(ctx)
	info, _ := p.AuthInfo.(credentials.TLSInfo)
	c.callers <- info.State.PeerCertificates[0].Subject.CommonName
	return &treatyv1.CompleteStepResponse{}, nil
}

// TestCompletesAtAnOrchestratorThatAsksForCertificates completes a step at an orchestrator with --tls-client-ca.
func TestCompletesAtAnOrchestratorThatAsksForCertificates(t *testing.T) {
	dir, authority := t.TempDir(), testkit.NewAuthority(t)
	service := &completions{callers: make(chan string, 1)}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{authority.Issue(t, "").Certificate}, ClientCAs: authority.Pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	})))
	treatyv1.RegisterSagaServiceServer(server, service)
	cert, key := authority.Issue(t, "identity").Write(t, dir, "identity")
	var o orchestrator
	flags := flag.NewFlagSet("identity", flag.ContinueOnError)
	o.addFlags(flags)
	if err := flags.Parse([]string{
		"--orchestrator", testkit.Serve(t, server), "--orchestrator-tls-ca",
		testkit.WriteFile(t, dir, "ca.pem", authority.PEM()), "--orchestrator-tls-cert", cert,
		"--orchestrator-tls-key", key,
	}); err != nil {
		t.Fatal(err)
	}
	connection, err := o.dial(false)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := treatyv1.NewSagaServiceClient(connection).CompleteStep(ctx,
		&treatyv1.CompleteStepRequest{Name: "sagas/x/steps/1"}); err != nil {
		t.Fatal(err)
	}
	if got := <-service.callers; got != "identity" {
		t.Errorf("%q completed the step", got)
	}
}
