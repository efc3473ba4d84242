package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/treatyhq/treaty/internal/policy"
	"github.com/treatyhq/treaty/orchestrator/access"
)

var catalog = &policy.Catalog{
	Definitions: []string{"acme.card.v1.CardSagas/IssueCard", "acme.credit.v1.CreditSagas/Lend"},
	Methods:     []string{"acme.card.v1.CardService/IssueCard", "acme.card.v1.CardService/CancelCard"},
	Events:      []string{"acme.card.v1.CardIssued", "acme.credit.v1.Lent"},
}

// web is the principal of most tests.
var web = spiffe("acme.example/web")

func spiffe(id string) access.Principal {
	return access.Principal{Kind: access.SPIFFE, Name: "spiffe://" + id}
}

func parse(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text), catalog)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// cardRequest is a request that concerns cards, and creditRequest one that concerns credits.
func cardRequest(action access.Action) access.Request {
	return about(access.Request{
		Principal: web, Action: action, Definition: "acme.card.v1.CardSagas/IssueCard",
		Method: "acme.card.v1.CardService/IssueCard", EventType: "acme.card.v1.CardIssued",
		Source: "//card.acme.example", Consumer: "cards",
	})
}

func creditRequest(action access.Action) access.Request {
	return about(access.Request{
		Principal: web, Action: action, Definition: "acme.credit.v1.CreditSagas/Lend",
		Method: "acme.credit.v1.CreditService/Lend", EventType: "acme.credit.v1.Lent",
		Source: "//credit.acme.example", Consumer: "credits",
	})
}

// about clears the fields that don't concern a request's action.
func about(r access.Request) access.Request {
	only := access.Request{Principal: r.Principal, Action: r.Action}
	switch r.Action {
	case access.Start, access.Read, access.Cancel, access.Resume, access.UndoChild, access.ReadSecrets:
		only.Definition = r.Definition
	case access.Complete:
		only.Method = r.Method
	case access.Publish:
		only.EventType, only.Source = r.EventType, r.Source
	case access.Consume:
		only.EventType, only.Consumer = r.EventType, r.Consumer
	case access.Administer:
	}
	return only
}

const onCards = `
  definitions: acme.card.v1.CardSagas/IssueCard
  methods: acme.card.v1.CardService/*
  events: [acme.card.v1.CardIssued]
  sources: [//card.acme.example]
  consumers: [cards]
`

// TestRolesAndActions has a row for each role and each action: what it allows on the resources of its grant. On others,
// and to others, it allows nothing. What isn't in a row is refused.
func TestRolesAndActions(t *testing.T) {
	definitions := "\n  definitions: acme.card.v1.CardSagas/IssueCard\n"
	rows := []struct {
		name, grant string
		allows      []access.Action
	}{
		{"starter", "roles: starter" + definitions, []access.Action{access.Start, access.Read}},
		{"viewer", "roles: viewer" + definitions, []access.Action{access.Read}},
		{"operator", "roles: operator" + definitions, []access.Action{access.Read, access.Cancel, access.Resume}},
		{"orchestrator", "roles: orchestrator" + definitions, []access.Action{access.UndoChild}},
		{"participant that completes", "roles: participant\n  methods: acme.card.v1.CardService/*",
			[]access.Action{access.Complete}},
		{"participant that publishes", "roles: participant\n  events: acme.card.*\n  sources: //card.acme.example",
			[]access.Action{access.Publish}},
		{"participant that consumes", "roles: participant\n  events: acme.card.*\n  consumers: cards",
			[]access.Action{access.Consume}},
		{"two roles", "roles: [viewer, orchestrator]" + definitions, []access.Action{access.Read, access.UndoChild}},
		{"own role", "roles: support" + definitions, []access.Action{access.Read, access.Resume}},
		{"role and actions", "roles: viewer\n  actions: [administer, cancel]" + definitions,
			[]access.Action{access.Read, access.Cancel, access.Administer}},
	}
	for _, action := range access.Actions() {
		grant := "actions: " + string(action)
		switch action {
		case access.Complete:
			grant += "\n  methods: acme.card.v1.CardService/IssueCard"
		case access.Publish:
			grant += "\n  events: acme.card.v1.CardIssued\n  sources: //card.acme.example"
		case access.Consume:
			grant += "\n  events: acme.card.v1.CardIssued\n  consumers: cards"
		case access.Administer:
		case access.Start, access.Read, access.Cancel, access.Resume, access.UndoChild, access.ReadSecrets:
			grant += definitions
		}
		rows = append(rows, struct {
			name, grant string
			allows      []access.Action
		}{string(action), grant, []access.Action{action}})
	}
	for _, row := range rows {
		p := parse(t, "roles: {support: [read, resume]}\n"+
			"grants:\n- principals: spiffe://acme.example/web\n  "+row.grant)
		for _, action := range access.Actions() {
			t.Run(row.name+"/"+string(action), func(t *testing.T) {
				want := slices.Contains(row.allows, action)
				if err := p.Authorize(t.Context(), cardRequest(action)); (err == nil) != want {
					t.Errorf("on its resources: %v", err)
				}
				if action != access.Administer {
					if err := p.Authorize(t.Context(), creditRequest(action)); err == nil {
						t.Error("allowed on other resources")
					}
				}
				stranger := cardRequest(action)
				stranger.Principal = spiffe("acme.example/web2")
				if err := p.Authorize(t.Context(), stranger); err == nil {
					t.Error("allowed to a stranger")
				}
			})
		}
	}
}

// TestEachResourceCounts has requests that concern two resources, of which a grant names one.
func TestEachResourceCounts(t *testing.T) {
	p := parse(t, "grants:\n- principals: spiffe://acme.example/web\n  actions: [publish, consume]"+`
  events: acme.card.v1.CardIssued
  sources: //card.acme.example
  consumers: cards
`)
	const card, credit = "acme.card.v1.CardIssued", "acme.credit.v1.Lent"
	for _, test := range []struct {
		request access.Request
		want    bool
	}{
		{access.Request{Action: access.Publish, EventType: card, Source: "//card.acme.example"}, true},
		{access.Request{Action: access.Publish, EventType: card, Source: "//credit.acme.example"}, false},
		{access.Request{Action: access.Publish, EventType: credit, Source: "//card.acme.example"}, false},
		{access.Request{Action: access.Consume, EventType: card, Consumer: "cards"}, true},
		{access.Request{Action: access.Consume, EventType: card, Consumer: "credits"}, false},
		{access.Request{Action: access.Consume, EventType: credit, Consumer: "cards"}, false},
	} {
		test.request.Principal = web
		if err := p.Authorize(t.Context(), test.request); (err == nil) != test.want {
			t.Errorf("%+v: %v", test.request, err)
		}
	}
}

// TestInstances has the role that allows everything.
func TestInstances(t *testing.T) {
	p := parse(t, "grants:\n- principals: spiffe://acme.example/web\n  roles: instance\n")
	for _, action := range access.Actions() {
		if err := errors.Join(p.Authorize(t.Context(), cardRequest(action)),
			p.Authorize(t.Context(), access.Request{Principal: web, Action: action})); err != nil {
			t.Error(err)
		}
		if p.Authorize(t.Context(), access.Request{Action: action}) == nil {
			t.Errorf("%s: allowed to somebody anonymous", action)
		}
	}
	if p.Authorize(t.Context(), access.Request{Principal: web, Action: "other"}) == nil {
		t.Error("an action that nobody knows is allowed")
	}
}

// TestEmptyResources asks about everything of a kind, which only a wildcard allows.
func TestEmptyResources(t *testing.T) {
	some := parse(t, "grants:\n- principals: spiffe://acme.example/web\n"+
		"  actions: [start, read, cancel, resume, complete, publish, consume, undo-child, read-secrets]"+onCards)
	all := parse(t, `
grants:
- principals: spiffe://acme.example/web
  actions: [start, read, cancel, resume, complete, publish, consume, undo-child, read-secrets]
  definitions: "*"
  methods: "*"
  events: "*"
  sources: "*"
  consumers: "*"
`)
	for _, action := range access.Actions() {
		if action == access.Administer {
			continue
		}
		request := access.Request{Principal: web, Action: action}
		if some.Authorize(t.Context(), request) == nil {
			t.Errorf("%s: allowed on everything", action)
		}
		if err := all.Authorize(t.Context(), request); err != nil {
			t.Error(err)
		}
	}
	// Without a consumer's name, only the types of the events count.
	request := access.Request{Principal: web, Action: access.Consume, EventType: "acme.card.v1.CardIssued"}
	if err := some.Authorize(t.Context(), request); err != nil {
		t.Error(err)
	}
	request.EventType = "acme.credit.v1.Lent"
	if some.Authorize(t.Context(), request) == nil {
		t.Error("events of other types may be read without a consumer")
	}
	// An acknowledgement names the consumer only.
	request = access.Request{Principal: web, Action: access.Consume, Consumer: "cards"}
	if err := some.Authorize(t.Context(), request); err != nil {
		t.Error(err)
	}
	request.Consumer = "credits"
	if some.Authorize(t.Context(), request) == nil {
		t.Error("another consumer's events may be acknowledged")
	}
	request = access.Request{Principal: web, Action: access.ReadSecrets, EventType: "acme.card.v1.CardIssued"}
	if err := some.Authorize(t.Context(), request); err != nil {
		t.Error(err)
	}
}

// TestPrincipals has patterns, with a principal that each matches and one that it doesn't.
func TestPrincipals(t *testing.T) {
	x509 := func(issuer, name string, dns ...string) access.Principal {
		return access.Principal{Kind: access.X509, Issuer: issuer, Name: name, DNSNames: dns}
	}
	jwt := func(issuer, name string) access.Principal {
		return access.Principal{Kind: access.JWT, Issuer: issuer, Name: name}
	}
	for _, test := range []struct {
		pattern string
		is      []access.Principal
		isnt    []access.Principal
	}{
		{"spiffe://acme.example/web", []access.Principal{web}, []access.Principal{
			spiffe("acme.example/web/a"), spiffe("acme.example/we"), spiffe("acme.example.evil/web"), {},
			x509("CN=root", "spiffe://acme.example/web"), jwt("i", "spiffe://acme.example/web"),
		}},
		{"spiffe://acme.example", []access.Principal{spiffe("acme.example")}, []access.Principal{web}},
		{"spiffe://acme.example/*", []access.Principal{web, spiffe("acme.example/web/a")}, []access.Principal{
			spiffe("acme.example"), spiffe("acme.example/"), spiffe("acme.example//web"), spiffe("b.acme.example/web"),
		}},
		{"spiffe://acme.example/ns/*/sa/web", []access.Principal{spiffe("acme.example/ns/shop/sa/web")},
			[]access.Principal{
				spiffe("acme.example/ns/shop/x/sa/web"), spiffe("acme.example/ns//sa/web"),
				spiffe("acme.example/ns/shop/sa/web/x"), spiffe("acme.example/ns/shop"),
				spiffe("acme.example/ns/shop/sa/"),
			}},
		{"spiffe://acme.example/ns/*/sa/*", []access.Principal{
			spiffe("acme.example/ns/shop/sa/web"), spiffe("acme.example/ns/shop/sa/web/x"),
		}, []access.Principal{spiffe("acme.example/ns/shop/sa/"), spiffe("acme.example/ns/shop/x/sa/web")}},
		{"x509:CN=Acme%3A root:CN=web,O=Acme", []access.Principal{x509("CN=Acme: root", "CN=web,O=Acme", "a.example")},
			[]access.Principal{x509("CN=Acme", " root:CN=web,O=Acme"), x509("CN=Evil", "CN=web,O=Acme")}},
		{"x509:CN=root:*", []access.Principal{x509("CN=root", "CN=web")}, []access.Principal{
			x509("CN=root:CN=web", "CN=web"), x509("CN=rooter", "CN=web"),
		}},
		{"dns:CN=root:web.acme.example", []access.Principal{x509("CN=root", "", "a.example", "web.acme.example")},
			[]access.Principal{x509("CN=root", "web.acme.example"), x509("CN=evil", "", "web.acme.example")}},
		{"dns:CN=root:*.acme.example", []access.Principal{x509("CN=root", "", "web.acme.example")}, []access.Principal{
			x509("CN=root", "", "a.web.acme.example"), x509("CN=root", "", "acme.example"),
			x509("CN=root", "", "web.acme.example.evil.example"), x509("CN=root", "", "webacme.example"),
		}},
		{"dns:CN=root:*", []access.Principal{x509("CN=root", "", "a")}, []access.Principal{x509("CN=root", "CN=a")}},
		{"jwt:https://id.example#clerk 7", []access.Principal{jwt("https://id.example", "clerk 7")},
			[]access.Principal{jwt("https://id.example", "clerk 8"), jwt("https://id.example/a", "clerk 7")}},
		{"jwt:https://id.example%23a#b", []access.Principal{jwt("https://id.example#a", "b")},
			[]access.Principal{jwt("https://id.example", "a#b")}},
		{"jwt:https://k8s.example#system:serviceaccount:shop:*", []access.Principal{
			jwt("https://k8s.example", "system:serviceaccount:shop:web"),
		}, []access.Principal{
			jwt("https://k8s.example", "system:serviceaccount:shop2:web"),
			jwt("https://k8s.example#system", "serviceaccount:shop:web"),
		}},
		{"jwt:https://id.example#*", []access.Principal{jwt("https://id.example", "b")},
			[]access.Principal{jwt("https://id.example.evil", "b"), jwt("https://id.example", "")}},
		{"local:1000", []access.Principal{access.OfUser(1000)},
			[]access.Principal{access.OfUser(100), access.OfUser(10000)}},
		{`local:*`, []access.Principal{access.OfUser(0)}, []access.Principal{{Kind: access.Local}}},
		{"local", []access.Principal{{Kind: access.Local}}, []access.Principal{access.OfUser(0), {}}},
		{"anonymous", []access.Principal{{}, {Kind: access.Anonymous}}, []access.Principal{{Kind: access.Local}, web}},
	} {
		t.Run(test.pattern, func(t *testing.T) {
			p := parse(t, fmt.Sprintf("grants:\n- principals: %q\n  actions: administer\n", test.pattern))
			for range 2 { // the second time, the principal is known
				for _, who := range test.is {
					request := access.Request{Principal: who, Action: access.Administer}
					if err := p.Authorize(t.Context(), request); err != nil {
						t.Error(err)
					}
				}
				for _, who := range test.isnt {
					if p.Authorize(t.Context(), access.Request{Principal: who, Action: access.Administer}) == nil {
						t.Errorf("%s is allowed", who)
					}
				}
			}
		})
	}
}

// TestOneSubjectTwoCertificates has two certificates that differ in their DNS names only.
func TestOneSubjectTwoCertificates(t *testing.T) {
	p := parse(t, "grants:\n- principals: dns:CN=root:web\n  actions: administer\n")
	request := access.Request{Action: access.Administer,
		Principal: access.Principal{Kind: access.X509, Issuer: "CN=root", Name: "CN=a", DNSNames: []string{"web"}}}
	for range 3 {
		request.Principal.DNSNames = []string{"web"}
		if err := p.Authorize(t.Context(), request); err != nil {
			t.Error(err)
		}
		request.Principal.DNSNames = []string{"other"}
		if p.Authorize(t.Context(), request) == nil {
			t.Error("the rights of the other certificate were remembered")
		}
	}
}

// TestManyPrincipals has more principals than are remembered.
func TestManyPrincipals(t *testing.T) {
	p := parse(t, "grants:\n- principals: jwt:i#user-7000\n  actions: administer\n")
	allowed := 0
	for i := range 10_000 {
		who := access.Principal{Kind: access.JWT, Issuer: "i", Name: fmt.Sprintf("user-%d", i)}
		if p.Authorize(t.Context(), access.Request{Principal: who, Action: access.Administer}) == nil {
			allowed++
		}
	}
	if allowed != 1 {
		t.Errorf("%d principals are allowed, want 1", allowed)
	}
}

// TestReasons has refusals, whose reason names what was missing.
func TestReasons(t *testing.T) {
	p := parse(t, "grants: []\n")
	for _, test := range []struct {
		request access.Request
		want    string
	}{
		{cardRequest(access.Publish), `lets "spiffe://acme.example/web" do the action "publish" on the event type ` +
			`"acme.card.v1.CardIssued" on the source "//card.acme.example"`},
		{access.Request{Action: access.Administer}, `lets "anonymous" do the action "administer"`},
		{access.Request{Action: access.Consume, Consumer: "a\nb"}, `the consumer "a\nb"`},
	} {
		err := p.Authorize(t.Context(), test.request)
		var missing *policy.MissingError
		if !errors.As(err, &missing) || !strings.Contains(err.Error(), test.want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("the reason is %q, want one line with %q", err, test.want)
		}
	}
}

// TestByIdentities decides about a principal of which only the identities are known.
func TestByIdentities(t *testing.T) {
	p := parse(t, "grants:\n- principals: dns:CN=root:web\n  actions: administer\n")
	request := access.Request{Action: access.Administer}
	if err := p.AuthorizeAs([]string{"x509:CN=root:CN=a", "dns:CN=root:web"}, request); err != nil {
		t.Error(err)
	}
	err := p.AuthorizeAs([]string{"x509:CN=root:CN=a"}, request)
	if err == nil || !strings.Contains(err.Error(), "x509:CN=root:CN=a") {
		t.Errorf("got %v", err)
	}
	if !p.NamesDNS() || parse(t, "grants: []").NamesDNS() {
		t.Error("wrong about whether DNS names count")
	}
}

// TestAllowedRequestsAllocateNothing asks again for a principal that is known.
func TestAllowedRequestsAllocateNothing(t *testing.T) {
	p := parse(t, bench)
	request := cardRequest(access.Start)
	if allocations := testing.AllocsPerRun(100, func() {
		if err := p.Authorize(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}); allocations != 0 {
		t.Errorf("%v allocations, want none", allocations)
	}
}

// bench has a grant that is found last, after others of the same principal.
var bench = `grants:
- principals: spiffe://acme.example/other
  roles: viewer
  definitions: acme.card.*
- principals: spiffe://acme.example/*
  roles: viewer
  definitions: "*"
- principals: spiffe://acme.example/web
  roles: starter
  definitions: acme.credit.*
- principals: spiffe://acme.example/web
  roles: starter
  definitions: acme.card.v1.CardSagas/*
`

func BenchmarkAuthorize(b *testing.B) {
	p := parse(b, bench)
	request := cardRequest(access.Start)
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Authorize(b.Context(), request); err != nil {
			b.Fatal(err)
		}
	}
}
