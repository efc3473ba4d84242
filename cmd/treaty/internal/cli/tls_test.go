package cli

import (
	"crypto/tls"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/treatyhq/treaty/cmd/treaty/internal/problem"
	"github.com/treatyhq/treaty/cmd/treaty/internal/servertest"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
)

// TestTLS checks that a call succeeds only if both sides trust each other, and that the message names the cause
// otherwise.
func TestTLS(t *testing.T) {
	ours, theirs := testkit.NewAuthority(t), testkit.NewAuthority(t)
	issued := ours.Issue(t, "treaty.test")
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{issued.Certificate}, ClientCAs: ours.Pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	})))
	treatyv1.RegisterSagaServiceServer(server, &servertest.Server{})
	address := testkit.Serve(t, server)

	dir := t.TempDir()
	ca := testkit.WriteFile(t, dir, "ca.pem", ours.PEM())
	cert, key := issued.Write(t, dir, "cert")
	stranger := testkit.WriteFile(t, dir, "stranger-ca.pem", theirs.PEM())
	strangerCert, strangerKey := theirs.Issue(t, "treaty.test").Write(t, dir, "stranger")
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
		{"another authority is named", []string{"--tls-ca", stranger, "--tls-server-name", "treaty.test"},
			problem.ExitFailure, "has a certificate of an authority that isn't trusted"},
		{"plaintext", nil, problem.ExitFailure, "--tls-ca"},
		{"plaintext is named", nil, problem.ExitFailure, "may require TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := run(t, setup{args: append([]string{"sagas", "list"}, c.flags...), address: address})
			if got.code != c.code || !strings.Contains(got.stderr, c.want) {
				t.Errorf("exit %d, %q, want %d, %q", got.code, got.stderr, c.code, c.want)
			}
		})
	}
	t.Run("the certificate is the actor", func(t *testing.T) {
		got := run(t, setup{env: map[string]string{"USER": ""}, address: address, args: []string{
			"sagas", "cancel", "x", "--reason", "why", "--tls-ca", ca, "--tls-cert", cert, "--tls-key", key,
			"--tls-server-name", "treaty.test"}})
		if !strings.Contains(got.stderr, "has no saga sagas/x") {
			t.Errorf("exit %d, %q, want the orchestrator's answer", got.code, got.stderr)
		}
	})
	t.Run("suggested commands have the flags", func(t *testing.T) {
		f := servertest.New(t)
		full(t, f)
		got := run(t, setup{args: []string{"sagas", "get", "stuck-2", "--address", f.Address}, address: f.Address})
		if !strings.Contains(got.stdout, "--retry --etag seen-stuck-2 --address ADDRESS\n") {
			t.Errorf("got %s", got.stdout)
		}
	})
}
