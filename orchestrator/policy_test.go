package orchestrator_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/treatyhq/treaty/gen/acme/card/v1" // the contracts that the example names
	_ "github.com/treatyhq/treaty/gen/acme/customer/v1"
	_ "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/internal/testkit"
	"github.com/treatyhq/treaty/orchestrator"
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
