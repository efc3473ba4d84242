package company

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	notificationv1 "github.com/treatyhq/treaty/gen/acme/notification/v1"
	privacyv1 "github.com/treatyhq/treaty/gen/acme/privacy/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/audit"
)

// done is an executed command. One without a request is from an earlier round.
type done struct {
	method         string
	request, reply proto.Message
}

func bytesOf(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestEffects(t *testing.T) {
	const ada, bob = "customers/ada", "customers/bob"
	created := func(who string) done {
		return done{customerv1.CustomerService_CreateCustomer_FullMethodName, &customerv1.CreateCustomerRequest{},
			&customerv1.CustomerCreated{Customer: who}}
	}
	forgotten := done{privacyv1.UserDataService_DeleteUserData_FullMethodName,
		&privacyv1.DeleteUserDataRequest{Customer: ada}, &privacyv1.UserDataDeleted{}}
	registered := done{
		identityv1.IdentityService_RegisterApplicant_FullMethodName,
		&identityv1.RegisterApplicantRequest{Customer: ada},
		&identityv1.ApplicantRegistered{Applicant: "applicants/ada", RegisterReference: "REG-1"},
	}
	inspected := done{
		identityv1.IdentityService_InspectPassport_FullMethodName,
		&identityv1.InspectPassportRequest{Applicant: "applicants/ada"},
		&identityv1.PassportInspected{Applicant: "applicants/ada", Inspection: "inspections/1"},
	}
	posted := done{
		cardv1.CardService_ChangePostalAddress_FullMethodName, &cardv1.ChangePostalAddressRequest{Customer: ada,
			AddressRevision: 1}, &cardv1.PostalAddressChanged{},
	}
	issued := done{
		cardv1.CardService_IssueCard_FullMethodName, &cardv1.IssueCardRequest{Customer: ada, AddressRevision: 1},
		&cardv1.CardIssued{Card: "cards/main"},
	}
	extra := done{
		cardv1.CardService_IssueExtraCard_FullMethodName, &cardv1.IssueExtraCardRequest{Customer: bob,
			AddressRevision: 1}, &cardv1.ExtraCardIssued{Card: "cards/extra"},
	}
	checked := done{creditv1.CreditService_CheckCredit_FullMethodName, &creditv1.CheckCreditRequest{Customer: ada},
		&creditv1.CreditChecked{Check: "checks/1"}}
	reused := done{creditv1.CreditService_ReuseCheck_FullMethodName, &creditv1.ReuseCheckRequest{Customer: ada},
		&creditv1.CheckReused{Check: "checks/2"}}
	reviewed := func(request proto.Message) done {
		return done{notificationv1.NotificationService_SendReview_FullMethodName, request,
			&notificationv1.ReviewSent{Message: "messages/1"}}
	}
	lost := func(d done) done { return done{d.method, nil, d.reply} }
	for _, test := range []struct {
		name   string
		ledger []done
		held   []audit.Effect
		want   []string // the effects of each entry
	}{
		{"customers", []done{created(ada), created(bob)}, nil, []string{ada, bob}},
		{"one of whom is forgotten", []done{created(ada), created(bob), forgotten}, nil, []string{"", bob, ""}},
		{"an inspected applicant", []done{registered, inspected}, nil,
			[]string{"applicants/ada register/REG-1", "inspections/1"}},
		{"an applicant who is forgotten", []done{registered, inspected, forgotten}, nil, []string{"", "", ""}},
		{"a card posted to a known address", []done{posted, issued, extra}, nil,
			[]string{"customers/ada@1", "cards/main", "cards/extra customers/bob@1"}},
		{"and to one that was forgotten", []done{posted, forgotten, issued}, nil,
			[]string{"", "", "cards/main customers/ada@1"}},
		{"a check, which is kept", []done{checked, forgotten}, nil, []string{"checks/1", ""}},
		{"a check that was reused, which is kept", []done{reused, forgotten}, nil, []string{"checks/2", ""}},
		{"a review", []done{reviewed(&notificationv1.SendReviewRequest{Customer: ada})}, nil, []string{"messages/1"}},
		{"of a round that is over", []done{reviewed(nil)}, []audit.Effect{{Resource: "messages/1"}},
			[]string{"messages/1"}},
		{"a lost card, posted to an address that nobody else has provided", []done{lost(issued)}, []audit.Effect{
			{Resource: "cards/main"}, {Resource: "customers/ada@1"},
			{Resource: "customers/bob@1"},
		}, []string{"cards/main customers/ada@1"}},
		{"a lost card, posted to a known address", []done{posted, lost(issued)}, []audit.Effect{
			{Resource: "cards/main"}, {Resource: "customers/ada@1"},
		}, []string{"customers/ada@1", "cards/main"}},
		{"a lost applicant, who was withdrawn at the register", []done{lost(registered)}, []audit.Effect{
			{Resource: "applicants/ada"}, {Resource: "register/REG-1", Undone: true},
		}, []string{"applicants/ada"}},
		{"of an earlier round, which may have been erased", []done{reviewed(nil)}, nil, []string{""}},
	} {
		t.Run(test.name, func(t *testing.T) {
			effects, entries := newEffects("any"), make([]entry, len(test.ledger))
			for i, d := range test.ledger {
				entries[i] = entry{
					Row: audit.Row{Direction: audit.Action, Verdict: audit.Executed}, method: d.method,
					reply: bytesOf(t, d.reply),
				}
				var intent *treatyv1.StepScheduled
				if d.request != nil {
					intent = &treatyv1.StepScheduled{Request: bytesOf(t, d.request)}
				}
				if err := effects.add(&entries[i], intent); err != nil {
					t.Fatal(err)
				}
			}
			effects.settle(test.held)
			got := make([]string, len(entries))
			for i, e := range entries {
				got[i] = strings.Join(e.Effects, " ")
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUndoneMailing checks that an address in use isn't taken for the effect of a command that was undone, if the
// request of that command is unknown, too.
func TestUndoneMailing(t *testing.T) {
	changed := bytesOf(t, &cardv1.PostalAddressChanged{Customer: "customers/ada"})
	entries := []entry{
		{Row: audit.Row{CommandID: "sagas/a/steps/1", Direction: audit.Action}, reply: changed,
			method: cardv1.CardService_ChangePostalAddress_FullMethodName},
		{Row: audit.Row{CommandID: "sagas/a/steps/1", Direction: audit.Compensation},
			method: cardv1.CardService_RestorePostalAddress_FullMethodName},
		{
			Row:    audit.Row{CommandID: "sagas/b/steps/1", Direction: audit.Action},
			method: cardv1.CardService_IssueCard_FullMethodName,
			reply:  bytesOf(t, &cardv1.CardIssued{Card: "cards/main"}),
		},
	}
	effects := newEffects(Card)
	for i := range entries {
		entries[i].Verdict = audit.Executed
		if err := effects.add(&entries[i], nil); err != nil {
			t.Fatal(err)
		}
	}
	effects.settle([]audit.Effect{
		{Resource: "customers/ada@1", Undone: true}, {Resource: "customers/bob@1"}, {Resource: "cards/main"},
	})
	if len(entries[0].Effects) != 0 {
		t.Errorf("the command that was undone has the effects %q", entries[0].Effects)
	}
	if diff := cmp.Diff([]string{"cards/main", "customers/bob@1"}, entries[2].Effects); diff != "" {
		t.Errorf("effects of the card (-want +got):\n%s", diff)
	}
}

func TestEffectsOfSomethingUnknown(t *testing.T) {
	for _, method := range []string{"", "/acme.card.v1.CardService/Paint", "/acme.card.v1.CardService/GetCard"} {
		e := entry{
			Row:    audit.Row{Direction: audit.Action, Verdict: audit.Executed, CommandID: "sagas/s/steps/1"},
			method: method,
		}
		if err := newEffects(Card).add(&e, nil); err == nil || !strings.Contains(err.Error(), "sagas/s/steps/1") {
			t.Errorf("%q: %v, want an error that names the command", method, err)
		}
	}
}
