package connection

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
)

// tokenServer keeps the authorization of the calls that it gets.
type tokenServer struct {
	treatyv1.UnimplementedSagaServiceServer
	got chan []string
}

// ListSagas implements treatyv1.SagaServiceServer.
func (s *tokenServer) ListSagas(
	ctx context.Context, _ *treatyv1.ListSagasRequest,
) (*treatyv1.ListSagasResponse, error) {
	s.got <- metadata.ValueFromIncomingContext(ctx, "authorization")
	return new(treatyv1.ListSagasResponse), nil
}

// serveTokens returns a server's address.
func serveTokens(t *testing.T, options ...grpc.ServerOption) (server *tokenServer, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server = &tokenServer{got: make(chan []string, 1)}
	g := grpc.NewServer(options...)
	treatyv1.RegisterSagaServiceServer(g, server)
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(listener) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return server, listener.Addr().String()
}

// TestTokenFile sends the token of a file over TLS, and over plaintext on this machine, and reads it again.
func TestTokenFile(t *testing.T) {
	dir := t.TempDir()
	authority := testkit.NewAuthority(t)
	ca := testkit.WriteFile(t, dir, "ca.pem", authority.PEM())
	overTLS, tlsAddress := serveTokens(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{authority.Issue(t, "").Certificate}, MinVersion: tls.VersionTLS13,
	})))
	plain, plainAddress := serveTokens(t)
	for name, test := range map[string]struct {
		server  *tokenServer
		options Options
	}{
		"TLS":       {overTLS, Options{Address: tlsAddress, CAFile: ca}},
		"plaintext": {plain, Options{Address: plainAddress}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			test.options.TokenFile, test.options.Timeout = file, time.Minute
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("a.b.c\n")
			client, err := New(t.Context(), test.options)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			for _, token := range []string{"a.b.c", "d.e.f"} {
				write(token + "\n")
				if _, err := client.Sagas.ListSagas(t.Context(), new(treatyv1.ListSagasRequest)); err != nil {
					t.Fatal(err)
				}
				if got := <-test.server.got; !slices.Equal(got, []string{"Bearer " + token}) {
					t.Errorf("the server got %q, want %s", got, token)
				}
			}
			write("")
			if _, err := client.Sagas.ListSagas(t.Context(), new(treatyv1.ListSagasRequest)); err == nil ||
				!strings.Contains(err.Error(), "is empty") {
				t.Errorf("without a token: %v", err)
			}
		})
	}
}

// TestTokenFileRefused has files and addresses for which no token is sent.
func TestTokenFileRefused(t *testing.T) {
	for name, test := range map[string]struct {
		token   string
		options Options
		want    string
	}{
		"plaintext beyond this machine": {"a.b.c", Options{Address: "10.0.0.1:7080", Insecure: true}, "--insecure"},
		"plaintext, not allowed at all": {"a.b.c", Options{Address: "10.0.0.1:7080"}, "plaintext isn't allowed"},
		"empty":                         {" \n", Options{Address: "127.0.0.1:7080"}, "is empty"},
		"with Bearer":                   {"Bearer a.b.c", Options{Address: "127.0.0.1:7080"}, "has more than a token"},
		"two lines":                     {"a.b.c\nd.e.f", Options{Address: "127.0.0.1:7080"}, "has more than a token"},
		"huge": {
			strings.Repeat("a", 9000), Options{Address: "127.0.0.1:7080"}, "more than 8192",
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.TokenFile = testkit.WriteFile(t, t.TempDir(), "token", []byte(test.token))
			test.options.Timeout = time.Minute
			_, err := New(t.Context(), test.options)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "a.b.c") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	_, err := New(t.Context(), Options{Address: "127.0.0.1:7080", TokenFile: "none", Timeout: time.Minute})
	if err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v", err)
	}
}
