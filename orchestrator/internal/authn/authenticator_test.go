package authn_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/authn"
)

// tokens accepts one token, and another one that names nobody.
type tokens struct{}

func (tokens) Verify(_ context.Context, token string) (access.Principal, error) {
	switch token {
	case "good":
		return access.Principal{Kind: access.JWT, Issuer: "https://id.example", Name: "ada"}, nil
	case "nobody":
		return access.Principal{}, nil
	default:
		return access.Principal{}, errors.New("it has expired")
	}
}

// caller is a client of a test, and how the server knows it.
type caller struct {
	params authn.Params
	unix   bool
	server *tls.Config
	client *tls.Config
	tokens []string // in the metadata
}

// principal makes a call and returns who made it, as the server knows it.
func (c caller) principal(t *testing.T) (who string, err error) {
	t.Helper()
	authenticator := authn.New(c.params)
	server := grpc.NewServer(grpc.Creds(authn.Credentials(c.server, nil)), grpc.UnaryInterceptor(
		func(ctx context.Context, _ any, _ *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
			var principal *access.Principal
			if principal, err = authenticator.Authenticate(ctx); err == nil {
				who = principal.String()
			}
			return &healthv1.HealthCheckResponse{}, nil
		}))
	healthv1.RegisterHealthServer(server, healthv1.UnimplementedHealthServer{})
	creds := insecure.NewCredentials()
	if c.client != nil {
		creds = credentials.NewTLS(c.client)
	}
	var address string
	if c.unix {
		path := filepath.Join(t.TempDir(), "api")
		listener, listenErr := new(net.ListenConfig).Listen(t.Context(), "unix", path)
		if listenErr != nil {
			t.Fatal(listenErr)
		}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(server.Stop)
		address = "unix:" + path
	} else {
		address = testkit.Serve(t, server)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var tokens []string
	for _, token := range c.tokens {
		tokens = append(tokens, "authorization", token)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, tokens...)
	conn := testkit.Dial(t, address, grpc.WithTransportCredentials(creds))
	if _, callErr := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}); callErr != nil {
		t.Fatal(callErr)
	}
	return who, err
}

func TestAuthenticate(t *testing.T) {
	authority := testkit.NewAuthority(t)
	mutual := &tls.Config{
		Certificates: []tls.Certificate{authority.Issue(t, "").Certificate}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: authority.Pool,
	}
	client := func(names *x509.Certificate) *tls.Config {
		config := &tls.Config{RootCAs: authority.Pool, MinVersion: tls.VersionTLS12}
		if names != nil {
			config.Certificates = []tls.Certificate{authority.IssueAs(t, names).Certificate}
		}
		return config
	}
	id := &x509.Certificate{URIs: []*url.URL{{Scheme: "spiffe", Host: "acme.example", Path: "/orders"}}}
	trusting, verifying := authn.Params{TrustLoopback: true}, authn.Params{TrustLoopback: true, Tokens: tokens{}}
	user := "local"
	if runtime.GOOS == "linux" {
		user += ":" + strconv.Itoa(os.Getuid())
	}
	for _, test := range []struct {
		name   string
		caller caller
		want   string // "" if the call has a token that isn't valid
		says   string
	}{
		{"loopback", caller{params: trusting}, "local", ""},
		{"loopback that isn't trusted", caller{}, "anonymous", ""},
		{"a Unix socket", caller{unix: true}, user, ""},
		{"TLS without a client certificate", caller{params: trusting, server: mutual, client: client(nil)}, "anonymous",
			""},
		{"a SPIFFE id", caller{server: mutual, client: client(id)}, "spiffe://acme.example/orders", ""},
		{"a subject", caller{server: mutual, client: client(&x509.Certificate{Subject: pkix.Name{CommonName: "ada"}})},
			"x509:" + strings.ReplaceAll(authority.Cert.Subject.String(), ":", "%3A") + ":CN=ada", ""},
		{"a token", caller{params: verifying, tokens: []string{"Bearer good"}}, "jwt:https://id.example#ada", ""},
		{"a token in place of a certificate",
			caller{params: verifying, server: mutual, client: client(id), tokens: []string{"bearer good"}},
			"jwt:https://id.example#ada", ""},
		{"no token", caller{params: verifying}, "local", ""},
		{"a token where none is verified", caller{params: trusting, tokens: []string{"Bearer bad"}}, "local", ""},
		{"an expired token", caller{params: verifying, tokens: []string{"Bearer bad"}}, "", "it has expired"},
		{"an expired token beside a certificate",
			caller{params: verifying, server: mutual, client: client(id), tokens: []string{"Bearer bad"}},
			"", "it has"},
		{"a token for nobody", caller{params: verifying, tokens: []string{"Bearer nobody"}}, "", "names nobody"},
		{"two tokens", caller{params: verifying, tokens: []string{"Bearer good", "Bearer good"}}, "", "2 of them"},
		{"an empty token", caller{params: verifying, tokens: []string{"Bearer "}}, "", "isn't \"Bearer TOKEN\""},
		{"a password", caller{params: verifying, tokens: []string{"Basic Z29vZA=="}}, "", "isn't \"Bearer TOKEN\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.caller.principal(t)
			if got != test.want || (err != nil) != (test.want == "") {
				t.Fatalf("got %q, %v; want %q", got, err, test.want)
			}
			if err != nil && (!errors.Is(err, authn.ErrToken) || !strings.Contains(err.Error(), test.says) ||
				strings.Contains(err.Error(), "good")) {
				t.Errorf("got %v, want one that says %q, without the token", err, test.says)
			}
		})
	}
}

// TestAuthenticateRemembers authenticates calls of one certificate without an allocation.
func TestAuthenticateRemembers(t *testing.T) {
	authority := testkit.NewAuthority(t)
	leaf := authority.Issue(t, "ada")
	parsed, err := x509.ParseCertificate(leaf.Certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	info := credentials.TLSInfo{State: tls.ConnectionState{
		VerifiedChains: [][]*x509.Certificate{{parsed, authority.Cert}},
	}}
	ctx := peer.NewContext(t.Context(), &peer.Peer{AuthInfo: info})
	authenticator := authn.New(authn.Params{})
	first, err := authenticator.Authenticate(ctx)
	if err != nil || !strings.HasSuffix(first.String(), ":CN=ada") {
		t.Fatalf("got %v, %v", first, err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if again, err := authenticator.Authenticate(ctx); err != nil || again != first {
			t.Errorf("got %v, %v", again, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations a call", n)
	}
}

// TestReportsHandshakes connects without TLS to a server that needs it.
func TestReportsHandshakes(t *testing.T) {
	authority := testkit.NewAuthority(t)
	reported := make(chan string, 10)
	server := grpc.NewServer(grpc.Creds(authn.Credentials(&tls.Config{
		Certificates: []tls.Certificate{authority.Issue(t, "").Certificate}, MinVersion: tls.VersionTLS12,
	}, func(from net.Addr, cause error) { reported <- from.Network() + " " + cause.Error() })))
	healthv1.RegisterHealthServer(server, healthv1.UnimplementedHealthServer{})
	conn := testkit.Dial(t, testkit.Serve(t, server), grpc.WithTransportCredentials(insecure.NewCredentials()))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the call ended with %v", err)
	}
	select {
	case got := <-reported:
		if !strings.HasPrefix(got, "tcp ") || !strings.Contains(got, "TLS handshake") {
			t.Errorf("reported %q", got)
		}
	case <-ctx.Done():
		t.Error("nothing was reported")
	}
}
