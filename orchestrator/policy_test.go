package orchestrator_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	_ "github.com/treatyhq/treaty/gen/acme/card/v1" // the contracts that the example names
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	_ "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
	"github.com/treatyhq/treaty/orchestrator/access"
)

// TestPolicyExample loads the example of docs/policy.md with the contracts of the example company.
func TestPolicyExample(t *testing.T) {
	page, err := os.ReadFile("../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```yaml\n")
	example, _, closed := strings.Cut(rest, "```\n")
	if !found || !closed || !strings.Contains(example, "grants:") {
		t.Fatal("docs/policy.md has no example")
	}
	if _, err := newWithPolicy(t, example); err != nil {
		t.Error(err)
	}
}

// TestPolicyRefused has policies with which no orchestrator starts.
func TestPolicyRefused(t *testing.T) {
	for name, test := range map[string]struct{ policy, want string }{
		"unknown role": {"grants: [{principals: local, roles: boss}]", `:1:37: unknown role "boss"`},
		"a definition that isn't there": {
			"grants: [{principals: local, roles: viewer, definitions: acme.bank.v1.BankSagas/Pay}]",
			"no contract has it",
		},
		"a command as a definition": {
			"grants: [{principals: local, roles: viewer, definitions: acme.card.v1.CardService/IssueCard}]",
			"no contract has it",
		},
		"a method that isn't there": {
			"grants: [{principals: local, actions: complete, methods: acme.card.v1.CardService/Issue}]",
			"no contract has it",
		},
		"an event type that isn't there": {
			"grants: [{principals: local, actions: read-secrets, events: acme.card.v1.IssueCardRequest}]",
			"no contract has it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := newWithPolicy(t, test.policy); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	missing := filepath.Join(t.TempDir(), "none.yaml")
	if _, err := orchestrator.New(orchestrator.WithPolicyFile(missing)); err == nil ||
		!strings.Contains(err.Error(), missing) {
		t.Errorf("got %v, want the path of the file that isn't there", err)
	}
}

func newWithPolicy(t *testing.T, text string) (*orchestrator.Orchestrator, error) {
	t.Helper()
	file := testkit.WriteFile(t, t.TempDir(), "policy.yaml", []byte(text))
	return orchestrator.New(orchestrator.WithPolicyFile(file), orchestrator.WithLogger(testkit.Logger(t)))
}

// TestPolicyDecides calls an orchestrator with a policy. On loopback, nobody has proved who they are, and what the
// policy doesn't give to everybody is refused. Then the file changes.
func TestPolicyDecides(t *testing.T) {
	const nobody = "grants: []"
	file := testkit.WriteFile(t, t.TempDir(), "policy.yaml", []byte(nobody))
	w := unopened(t, newParticipants(t))
	w.options = []orchestrator.Option{orchestrator.WithPolicyFile(file)}
	w.open()
	_, err := w.acme.ChangeAddress(w.ctx(), move("one", "Main Street 1"))
	if reason, _ := info(err); status.Code(err) != codes.PermissionDenied ||
		reason != treatyv1.ErrorReason_ERROR_REASON_NOT_ALLOWED {
		t.Fatalf("got %v, want a refusal", err)
	}
	grant := "grants: [{principals: anonymous, roles: starter, definitions: " + changeAddress + "}]"
	next := testkit.WriteFile(t, filepath.Dir(file), "next.yaml", []byte(grant))
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
	ctx := w.ctx()
	for {
		_, err = w.acme.ChangeAddress(ctx, move("one", "Main Street 1"))
		if status.Code(err) != codes.PermissionDenied {
			break
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// TestOneDecides has options of which only one could decide.
func TestOneDecides(t *testing.T) {
	file := orchestrator.WithPolicyFile(testkit.WriteFile(t, t.TempDir(), "policy.yaml", []byte("grants: []")))
	for name, options := range map[string][]orchestrator.Option{
		"a policy and open access":   {file, orchestrator.WithOpenAccess()},
		"a policy and an authorizer": {file, orchestrator.WithAuthorizer(allowAll{})},
	} {
		if _, err := orchestrator.New(options...); err == nil ||
			!strings.Contains(err.Error(), "leave out one of the two") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// allowAll allows everything.
type allowAll struct{}

func (allowAll) Authorize(context.Context, access.Request) error { return nil }

func (allowAll) Changed() <-chan struct{} { return nil }

// TestPolicyOverTLS calls an orchestrator with certificates of one authority. What no grant allows is refused. When the
// policy changes, an open stream that is no longer allowed ends, and later calls are decided by the new policy.
func TestPolicyOverTLS(t *testing.T) {
	dir := t.TempDir()
	authority := testkit.NewAuthority(t)
	cert, key := authority.Issue(t, "").Write(t, dir, "api")
	const definitions = "definitions: acme.customer.v1.CustomerSagas/*"
	file := testkit.WriteFile(t, dir, "policy.yaml", []byte(`
grants:
- {principals: spiffe://acme.example/web, roles: starter, `+definitions+`}
- {principals: spiffe://acme.example/web, actions: consume, events: "*", consumers: web}
- {principals: spiffe://acme.example/desk, roles: viewer, `+definitions+`}
`))
	w := unopened(t, newParticipants(t))
	w.options = []orchestrator.Option{
		orchestrator.WithTLS(cert, key), orchestrator.WithPolicyFile(file),
		orchestrator.WithClientCA(testkit.WriteFile(t, dir, "ca.pem", authority.PEM())),
	}
	w.open()
	as := func(name string) *grpc.ClientConn {
		id := &url.URL{Scheme: "spiffe", Host: "acme.example", Path: "/" + name}
		return testkit.Dial(t, w.ready.Address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: authority.Pool, MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{
				authority.IssueAs(t, &x509.Certificate{URIs: []*url.URL{id}}).Certificate,
			},
		})))
	}
	web, desk, stranger := as("web"), as("desk"), as("stranger")
	start := func(conn *grpc.ClientConn, id string) error {
		_, err := customerv1.NewCustomerSagasClient(conn).ChangeAddress(w.ctx(), move(id, "1 Main Street"))
		return err
	}
	read := func(conn *grpc.ClientConn) error {
		_, err := treatyv1.NewSagaServiceClient(conn).ListSagas(w.ctx(), new(treatyv1.ListSagasRequest))
		return err
	}
	purge := func(conn *grpc.ClientConn) error {
		_, err := treatyv1.NewSagaServiceClient(conn).PurgeSaga(w.ctx(), &treatyv1.PurgeSagaRequest{Name: "sagas/a"})
		return err
	}
	expect := func(what string, err error, want codes.Code) {
		t.Helper()
		if status.Code(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	expect("web starts", start(web, "one"), codes.OK)
	expect("web reads", read(web), codes.OK)
	expect("web purges", purge(web), codes.PermissionDenied)
	expect("the desk starts", start(desk, "two"), codes.PermissionDenied)
	expect("the desk reads", read(desk), codes.OK)
	expect("a stranger starts", start(stranger, "three"), codes.PermissionDenied)
	expect("a stranger reads", read(stranger), codes.PermissionDenied)

	stream, err := treatyv1.NewEventServiceClient(web).StreamEvents(w.ctx(),
		&treatyv1.StreamEventsRequest{Consumer: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Header(); err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, dir, "policy.yaml", []byte(`
grants:
- {principals: spiffe://acme.example/stranger, roles: starter, `+definitions+`}
`))
	for err == nil {
		_, err = stream.Recv()
	}
	expect("web's stream", err, codes.PermissionDenied)
	expect("web starts, under the new policy", start(web, "four"), codes.PermissionDenied)
	expect("a stranger starts, under the new policy", start(stranger, "five"), codes.OK)
}

// TestPolicyWithTokens calls an orchestrator with tokens and without.
func TestPolicyWithTokens(t *testing.T) {
	dir := t.TempDir()
	authority := testkit.NewAuthority(t)
	cert, key := authority.Issue(t, "").Write(t, dir, "api")
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signing := jose.JSONWebKey{Key: private, KeyID: "one"}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{signing.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	const issuer = "https://id.acme.example"
	w := unopened(t, newParticipants(t))
	w.options = []orchestrator.Option{
		orchestrator.WithTLS(cert, key),
		orchestrator.WithPolicyFile(testkit.WriteFile(t, dir, "policy.yaml", []byte(
			"grants: [{principals: jwt:"+issuer+"#ada, roles: viewer, definitions: '*'}]"))),
		orchestrator.WithTokenIssuer(orchestrator.TokenIssuer{
			URL: issuer, KeysFile: testkit.WriteFile(t, dir, "keys.json", keys),
		}),
		orchestrator.WithTokenAudience("treaty"),
	}
	w.open()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: signing}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token := func(subject string, lasts time.Duration) string {
		text, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: issuer, Subject: subject, Audience: jwt.Audience{"treaty"},
			Expiry: jwt.NewNumericDate(time.Now().Add(lasts)),
		}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	client := treatyv1.NewSagaServiceClient(testkit.Dial(t, w.ready.Address, grpc.WithTransportCredentials(
		credentials.NewTLS(&tls.Config{RootCAs: authority.Pool, MinVersion: tls.VersionTLS13}))))
	for name, test := range map[string]struct {
		token string
		want  codes.Code
	}{
		"whom a grant names":      {token("ada", time.Hour), codes.OK},
		"whom no grant names":     {token("eve", time.Hour), codes.PermissionDenied},
		"a token that is over":    {token("ada", -time.Hour), codes.Unauthenticated},
		"a token that was forged": {token("ada", time.Hour)[:100], codes.Unauthenticated},
		"no token":                {"", codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := w.ctx()
			if test.token != "" {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+test.token)
			}
			_, err := client.ListSagas(ctx, new(treatyv1.ListSagasRequest))
			if status.Code(err) != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
