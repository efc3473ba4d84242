package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/internal/configfile"
	"github.com/treatyhq/treaty/internal/policy"
	"github.com/treatyhq/treaty/orchestrator/access"
)

// TestParseRefuses has files with one mistake each, and where and what it is.
func TestParseRefuses(t *testing.T) {
	grant := func(lines ...string) string { return "grants:\n- " + strings.Join(lines, "\n  ") + "\n" }
	admin := func(principal string) string {
		return grant(fmt.Sprintf("principals: %q", principal), "actions: administer")
	}
	start := func(resources ...string) string {
		return grant(append([]string{"principals: local", "actions: start"}, resources...)...)
	}
	tests := []struct{ name, file, want string }{
		{"empty", "", "1:1: no grants"},
		{"no YAML", "grants: [", "1: this isn't YAML"},
		{"a list", "- a\n", "1:1: want lines such as"},
		{"unknown key", "grants: []\nroots: {}\n", `2:1: unknown key "roots"`},
		{"grants twice", "grants: []\ngrants: []\n", "2:1: grants is here twice"},
		{"grants aren't a list", "grants: {a: b}\n", "1:9: grants is a list"},
		{"a grant isn't a mapping", "grants: [a]\n", "1:10: want a grant"},
		{"roles aren't a mapping", "roles: [a]\ngrants: []\n", "1:8: roles has a key for each role"},
		{"own role with a ready name", "roles: {viewer: [read]}\ngrants: []\n", "1:9: the role viewer comes ready"},
		{"own role with a bad name", "roles: {a b: [read]}\ngrants: []\n", `1:9: "a b" can't be a role`},
		{"own role without actions", "roles: {a: []}\ngrants: []\n", "1:12: actions wants a list"},
		{"own role with an unknown action", "roles:\n  a: [read, reed]\ngrants: []\n", `2:13: unknown action "reed"`},
		{"unknown key of a grant", admin("local") + "  to: all\n", `4:3: unknown key "to" of a grant`},
		{"nobody", grant("actions: administer"), "2:3: a grant needs principals"},
		{"nothing", grant("principals: local"), "2:3: a grant needs roles or actions"},
		{"unknown role", grant("principals: local", "roles: [viewer, boss]"), `3:19: unknown role "boss"`},
		{"unknown action", grant("principals: local", "actions: [admin]"), `3:13: unknown action "admin"`},
		{"a mapping as a list", grant("principals: {a: b}", "actions: administer"), "2:15: principals wants a list"},
		{"a list in a list", grant("principals: [[a]]", "actions: administer"), "2:16: principals wants plain texts"},
		{"no principals", grant("principals: []", "actions: administer"), "2:15: principals wants a list"},
		{"a principal twice", grant("principals: [local, local]", "actions: administer"),
			`principals has "local" twice`},
		{"a role twice", grant("principals: local", "roles: [instance, instance]"), `roles has "instance" twice`},
		{"a grant twice", grant("principals: [local, anonymous]", "actions: administer",
			"") + "- actions: administer\n  principals: [anonymous, local]\n", "5:3: this grant is here twice"},
		{"action without its resource", start(), "3:3: the action start needs definitions"},
		{"action without one of its resources", grant("principals: local", "actions: publish",
			"events: acme.card.v1.CardIssued"), "3:3: the action publish needs events and sources"},
		{"role without a resource", grant("principals: local", "roles: participant"),
			"3:3: the role participant allows nothing here: it needs methods to complete, events and sources to "},
		{"resource without an action", start(`definitions: "*"`, "methods: acme.card.*"),
			"5:3: no action of this grant is about methods"},
		{"instances with resources", grant("principals: local", "roles: instance", `definitions: "*"`),
			"3:3: the role instance allows everything"},
		{"instances with another role", grant("principals: local", "roles: [instance, viewer]", `definitions: "*"`),
			"3:3: the role instance allows everything"},
		{"definition that isn't there", start("definitions: acme.card.v1.CardSagas/Issue"),
			`4:16: definitions: "acme.card.v1.CardSagas/Issue": no contract has it`},
		{"definitions that aren't there", start("definitions: acme.bank.*"), "no contract has it"},
		{"definition with a dot", start("definitions: acme.card.v1.CardSagas.IssueCard"), "want SERVICE/METHOD"},
		{"definition with a space", start("definitions: acme card/*"), "can't be a part of a name"},
		{"part of a segment", start("definitions: acme.card.v1.CardSagas/Issue*"), "can't be a part of a name"},
		{"method that isn't there", grant("principals: local", "actions: complete", "methods: acme.card.v1.X/Y"),
			"no contract has it"},
		{"event type that isn't there", grant("principals: local", "actions: read-secrets", "events: acme.card.v1.X"),
			"no contract has it"},
		{"event type with a slash", grant("principals: local", "actions: read-secrets", "events: acme/x"),
			"can't be a part of a name"},
		{"source with a space", grant("principals: local", "actions: publish", `events: "*"`, "sources: a b"),
			"a source is a URI reference"},
		{"part of a source", grant("principals: local", "actions: publish", `events: "*"`, "sources: //acme*"),
			"want * only as a whole segment"},
		{"consumer", grant("principals: local", "actions: consume", `events: "*"`, "consumers: Cards"),
			"a consumer has 1 to 63"},
		{"part of a consumer", grant("principals: local", "actions: consume", `events: "*"`, `consumers: "car*"`),
			"want * only as a whole segment"},
		{"too large", "grants: [] #" + strings.Repeat("x", configfile.MaxBytes), "policy.yaml has"},
	}
	for _, principal := range []string{
		"*", "web", "https://acme.example/web", "Anonymous", "anonymous:1", // no kind of principal
		"spiffe:acme.example/web", "spiffe://", "spiffe:///web", "spiffe://*/web", "spiffe://Acme.example/web",
		"spiffe://acme.example/", "spiffe://acme.example/a//b", "spiffe://acme.example/../b",
		"spiffe://acme.example/a b",
		"spiffe://acme.example/web*", "spiffe://acme.example/**", "spiffe://acme.example/%41",
		"spiffe://acme.example:1/a",
		"x509:CN=root", "x509::CN=web", "x509:CN=root:", "x509:*:CN=web", "x509:CN=root:CN=*", "x509:CN=r%6F:CN=web",
		"x509:CN=root:CN=web%3A", "x509:CN=root:a%", "x509:CN=root:a%2", "x509:CN=root:a%zz", "x509:CN=root:a%0a",
		"x509:CN=root:bücher",
		"dns:root", "dns:CN=root:", "dns:CN=root:Web", "dns:CN=root:a..b", "dns:CN=root:acme.*", "dns:*:a",
		"dns:CN=root:a*",
		"jwt:https://id.example", "jwt:#a", "jwt:i#", "jwt:*#a", "jwt:i#a*", "jwt:i#a%2Ab", "jwt:i#**", "jwt:i\tj#a",
		"local:", "local:ada", "local:01", "local:-1", "local:4294967296", "local:1*", "local:*:*",
	} {
		tests = append(tests, struct{ name, file, want string }{principal, admin(principal), "can be nobody"})
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := policy.Parse("policy.yaml", []byte(test.file), catalog)
			if err == nil {
				t.Fatalf("accepted:\n%s", test.file)
			}
			if !strings.HasPrefix(err.Error(), "policy.yaml") || !strings.Contains(err.Error(), test.want) ||
				strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, test.want)
			}
		})
	}
}

// TestParseReportsAll has a file with several mistakes, and one with more than are reported.
func TestParseReportsAll(t *testing.T) {
	_, err := policy.Parse("p", []byte("a: b\nroles: {x: [y]}\ngrants: [{principals: web, actions: z}]\n"), nil)
	if err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("got %v, want four errors", err)
	}
	_, err = policy.Parse("p", []byte("grants: ["+strings.Repeat("a,", 1000)+"]\n"), nil)
	if err == nil || !strings.HasSuffix(err.Error(), "\nand 950 more") {
		t.Errorf("got %v", err)
	}
}

// TestParseWithoutCatalog accepts names that nobody can check.
func TestParseWithoutCatalog(t *testing.T) {
	const text = "grants: [{principals: local, roles: viewer, definitions: [acme.bank.v1.Sagas/Pay, acme.x.*]}]\n"
	if _, err := policy.Parse("policy.yaml", []byte(text), nil); err != nil {
		t.Error(err)
	}
	if _, err := policy.Parse("policy.yaml", []byte(text), new(policy.Catalog)); err != nil {
		t.Error(err)
	}
	if _, err := policy.Parse("policy.yaml", []byte(text), &policy.Catalog{Definitions: []string{}}); err == nil {
		t.Error("an empty catalog has definitions")
	}
}

// TestParseWithNamesOnly checks names, and not the patterns of what the catalog has in part.
func TestParseWithNamesOnly(t *testing.T) {
	const file = "grants: [{principals: local, actions: complete, methods: [%s]}]"
	known := &policy.Catalog{Definitions: []string{}, Methods: []string{"a.B/C"}, Events: []string{}, NamesOnly: true}
	for methods, want := range map[string]bool{"a.B/C": true, "a.B/C, x.*": true, "a.B/D": false} {
		if _, err := policy.Parse("policy.yaml", fmt.Appendf(nil, file, methods), known); (err == nil) != want {
			t.Errorf("%s: %v", methods, err)
		}
	}
	p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, file, "a.B/C, x.*"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if methods, events := p.Names(); !slices.Equal(methods, []string{"a.B/C"}) || len(events) != 0 {
		t.Errorf("the policy names %q and %q", methods, events)
	}
}

// FuzzPolicy reads files and decides by them. Nobody gets what no grant names.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(bench), "spiffe://acme.example/web", "acme.card.v1.CardSagas/IssueCard")
	f.Add([]byte("grants: []"), "", "")
	f.Add([]byte("grants: [{principals: 'local:*', roles: participant, methods: '*'}]"), "local:7", "a.B/C")
	f.Add([]byte("roles: {a: [read]}\ngrants: [{principals: 'x509:CN=a%3A:*', roles: a, definitions: a.*.b/C}]"),
		"x509:CN=a%3A:CN=b", "a.x.b/C")
	f.Add([]byte("grants: [{principals: ['dns:r:*.b', 'jwt:i#a:*'], actions: publish, events: '*', sources: //a/*}]"),
		"jwt:i#a:b", "//a/b")
	f.Fuzz(func(t *testing.T, file []byte, identity, name string) {
		p, err := policy.Parse("policy.yaml", file, nil)
		if err != nil {
			return
		}
		for _, action := range access.Actions() {
			request := access.Request{Principal: access.Principal{Kind: access.SPIFFE, Name: identity}, Action: action,
				Definition: name, Method: name, EventType: name, Source: name, Consumer: name}
			byPrincipal, byIdentity := p.Authorize(t.Context(), request), p.AuthorizeAs([]string{identity}, request)
			if (byPrincipal == nil) != (byIdentity == nil) {
				t.Errorf("%s is allowed one way only: %v, %v", action, byPrincipal, byIdentity)
			}
			named := slices.ContainsFunc([]string{string(action), "role", `\`}, func(part string) bool {
				return strings.Contains(string(file), part)
			})
			if byPrincipal == nil && !named {
				t.Errorf("%s is allowed without being named", action)
			}
		}
	})
}
