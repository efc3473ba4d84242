//go:build proof

package proof

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/internal/jaegertest"
	"github.com/treatyhq/treaty/services/demo/company"
)

// stepTag is an attribute of the spans of steps and attempts. The anchors of sagas don't have it.
const stepTag = "treaty.step"

// wantedFamily describes the trace of a saga with children.
type wantedFamily struct {
	definition, child string
	children          int
	commands          map[string]string // the participant that serves each method that the saga calls
	childCommands     map[string]string // the participant that serves each method that every child calls
	ends              map[string]int    // the number of spans of each name that covers a saga, with the children's
}

// faults returns what is wrong with a trace. It must have no holes, each child's anchor below another step of the
// parent, the steps of each saga below that saga's anchor, and the participants' work below the steps.
func (w wantedFamily) faults(got *jaegertest.Trace) (faults []string) {
	add := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	faults = holes(got)
	if roots := got.Roots(); len(roots) != 1 || roots[0].Name != caller {
		add("the trace has %d roots, want only the caller's", len(roots))
	}
	parents := anchorsOf(got, w.definition)
	if len(parents) != 1 || !isBelowCaller(got, parents[0]) {
		add("the trace has %d anchors of the saga, want one below the caller's call", len(parents))
		return faults
	}
	faults = append(faults, missing(got, parents[0], w.commands)...)
	children := anchorsOf(got, w.child)
	if len(children) != w.children {
		add("the trace has %d anchors of children, want %d", len(children), w.children)
	}
	paths := make(map[string]bool)
	for _, child := range children {
		i := slices.IndexFunc(got.Spans, func(s jaegertest.Span) bool { return s.ID == child.Parent })
		if i < 0 || got.Spans[i].Name != "action "+w.child || got.Spans[i].Parent != parents[0].ID {
			add("the anchor of a child isn't below a step of its parent")
			continue
		}
		paths[got.Spans[i].Tags[stepTag]] = true
		faults = append(faults, missing(got, child, w.childCommands)...)
	}
	if len(paths) != w.children {
		add("the children are %d of the saga's steps, want %d", len(paths), w.children)
	}
	for end, want := range w.ends {
		if n := len(own(got, end)); n != want {
			add("%d spans are named %q, want %d", n, end, want)
		}
	}
	return faults
}

// anchorsOf returns the anchors of the sagas of a definition.
func anchorsOf(got *jaegertest.Trace, definition string) []jaegertest.Span {
	return slices.DeleteFunc(own(got, definition), func(s jaegertest.Span) bool { return s.Tags[stepTag] != "" })
}

// TestFamilyTraces checks the traces of two sagas with children in Jaeger: one that succeeds although one of its scopes
// fails, and one that is compensated with its children.
func TestFamilyTraces(t *testing.T) {
	acme := openTraced(t)
	for _, test := range []struct {
		name   string
		change func(*cardv1.IssueFamilyCardsRequest)
		code   codes.Code
		wanted func(*wantedFamily)
	}{
		{"succeeded", func(r *cardv1.IssueFamilyCardsRequest) { r.Product = "gold" }, codes.OK, func(w *wantedFamily) {
			w.commands["acme.credit.v1.CreditService/AbandonCheck"] = company.Credit
			w.commands["acme.card.v1.CardService/IssueExtraCard"] = company.Card
			w.commands["acme.notification.v1.NotificationService/SendWelcome"] = company.Notification
			w.ends = map[string]int{"saga succeeded": 3, "saga compensated": 0}
		}},
		{"compensated", func(r *cardv1.IssueFamilyCardsRequest) { r.LimitCents = 8_000_00 }, codes.OutOfRange,
			func(w *wantedFamily) {
				w.commands["acme.customer.v1.CustomerService/RemoveCustomer"] = company.Customer
				w.childCommands["acme.identity.v1.IdentityService/WithdrawApplicant"] = company.Identity
				w.ends = map[string]int{"saga succeeded": 2, "saga compensated": 3} // the children had succeeded
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			request := &cardv1.IssueFamilyCardsRequest{
				RequestId: test.name, Product: "classic", LimitCents: 4_000_00,
				Postal: &cardv1.Postal{Lines: []string{"Oude Delft 1"}, PostalCode: "2611 AA", City: "Delft",
					Country: "NL"},
				Head:    relative(test.name, "head", 90_000_00),
				Members: []*cardv1.Person{relative(test.name, "member", 1_000_00)},
			}
			test.change(request)
			want := wantedFamily{
				definition: issueFamilyCards, child: verifyApplicant, children: 2,
				commands: map[string]string{
					"acme.customer.v1.CustomerService/CreateCustomer": company.Customer,
					"acme.credit.v1.CreditService/GetLastCheck":       company.Credit,
					"acme.credit.v1.CreditService/CheckCredit":        company.Credit,
					"acme.card.v1.CardService/ChangePostalAddress":    company.Card,
					"acme.card.v1.CardService/IssueCard":              company.Card,
				},
				childCommands: map[string]string{
					"acme.identity.v1.IdentityService/RegisterApplicant": company.Identity,
					"acme.identity.v1.IdentityService/InspectPassport":   company.Identity,
				},
			}
			test.wanted(&want)
			got := acme.shows(t, want, func(ctx context.Context) {
				_, err := cardv1.NewFamilySagasClient(acme.Conn(company.Orchestrator)).IssueFamilyCards(ctx, request)
				if status.Code(err) != test.code {
					t.Errorf("the saga ends with %v, want %s", err, test.code)
				}
			})
			t.Logf("the trace has %d spans below one root, %d of them of the orchestrator", len(got.Spans),
				len(ofService(got, orchestratorService)))
			// Every anchor of a child, and every step above one, is needed.
			for _, taken := range append(anchorsOf(got, verifyApplicant), own(got, "action "+verifyApplicant)...) {
				spans := slices.DeleteFunc(slices.Clone(got.Spans),
					func(s jaegertest.Span) bool { return s.ID == taken.ID })
				if len(want.faults(&jaegertest.Trace{ID: got.ID, Spans: spans})) == 0 {
					t.Errorf("a trace without the span %s of %s has no faults", taken.ID, taken.Name)
				}
			}
		})
	}
}

func ofService(got *jaegertest.Trace, service string) []jaegertest.Span {
	return slices.DeleteFunc(slices.Clone(got.Spans), func(s jaegertest.Span) bool { return s.Service != service })
}

func relative(family, name string, income int64) *cardv1.Person {
	passport := map[string]string{"head": "PP0000001", "member": "PP0000002"}[name]
	return &cardv1.Person{
		DisplayName: name, Email: family + "-" + name + "@example.com", NationalId: family + "-" + name,
		PassportNumber: passport, YearlyIncomeCents: income,
	}
}
