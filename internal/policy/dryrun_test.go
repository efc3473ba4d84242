package policy_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/treatyhq/treaty/internal/policy"
	"github.com/treatyhq/treaty/orchestrator/access"
)

// TestDryRun compares recorded calls with a policy: what it would refuse comes first, and equal calls are one change.
func TestDryRun(t *testing.T) {
	p := parse(t, `
grants:
- principals: spiffe://acme.example/web
  roles: starter
  definitions: acme.card.*
- principals: dns:CN=root:a
  actions: administer
`)
	log, err := os.Open("testdata/audit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	got, err := p.DryRun("audit.jsonl", log)
	if err != nil {
		t.Fatal(err)
	}
	const card = "acme.card.v1.CardSagas/IssueCard"
	want := &policy.DryRun{Calls: 8, Others: 1, WithoutDNS: 1, Changes: []policy.Change{
		{Principal: web.Name, Request: access.Request{Action: access.Cancel, Definition: card}, Calls: 2},
		{Principal: web.Name, Request: access.Request{Action: access.Publish, EventType: "acme.card.v1.CardIssued",
			Source: "//a"}, Calls: 1},
		{Principal: web.Name, Request: access.Request{Action: access.Read, Definition: card}, Allowed: true, Calls: 1},
		{Principal: "x509:CN=root:CN=a", Request: access.Request{Action: access.Administer}, Allowed: true, Calls: 1},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the result differs (-want +got):\n%s", diff)
	}
	if resource := got.Changes[1].Resource(); resource != "acme.card.v1.CardIssued from //a" {
		t.Errorf("the resource is %q", resource)
	}
}

// FuzzDryRun reads logs. Each line is a call, something else, or an error.
func FuzzDryRun(f *testing.F) {
	log, err := os.ReadFile("testdata/audit.jsonl")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(log)
	f.Add([]byte("{}\n\n{\"action\":\"read\",\"principal\":\"local\",\"decision\":\"allowed\"}"))
	f.Add([]byte("[\xff"))
	p := parse(f, bench)
	f.Fuzz(func(t *testing.T, log []byte) {
		result, err := p.DryRun("audit.jsonl", bytes.NewReader(log))
		if err != nil {
			return
		}
		changed := 0
		for _, change := range result.Changes {
			changed += change.Calls
		}
		if lines := bytes.Count(log, []byte("\n")) + 1; changed > result.Calls || result.Calls+result.Others > lines {
			t.Errorf("%d changes of %d calls, and %d others, in %d lines", changed, result.Calls, result.Others, lines)
		}
	})
}

// TestDryRunRefuses has logs that can't be compared.
func TestDryRunRefuses(t *testing.T) {
	p := parse(t, "grants: []")
	for name, test := range map[string]struct{ log, want string }{
		"no JSON":    {"\nrefused\n", "audit.jsonl:2: want one JSON object per line"},
		"no object":  {"[]\n", "audit.jsonl:1: want one JSON object"},
		"other type": {`{"principal":7}` + "\n", "audit.jsonl:1: want one JSON object"},
		"decision": {
			`{"principal":"local","action":"read","decision":"maybe"}`, `audit.jsonl:1: the decision is "maybe"`,
		},
		"long line": {"{}\n" + strings.Repeat(" ", 1<<20) + "{}", "audit.jsonl:2: the line has more than"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := p.DryRun("audit.jsonl", strings.NewReader(test.log)); err == nil ||
				!strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	broken := errors.New("broken")
	if _, err := p.DryRun("audit.jsonl", iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
