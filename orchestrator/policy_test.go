package orchestrator_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	_ "github.com/treatyhq/treaty/gen/acme/card/v1" // the contracts that the example names
	_ "github.com/treatyhq/treaty/gen/acme/customer/v1"
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
		if _, err := orchestrator.New(options...); err == nil || !strings.Contains(err.Error(), "leave out one of the two") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// allowAll allows everything.
type allowAll struct{}

func (allowAll) Authorize(context.Context, access.Request) error { return nil }

func (allowAll) Changed() <-chan struct{} { return nil }
