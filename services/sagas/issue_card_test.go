package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
)

func TestIssueCard(t *testing.T) {
	const limit = 1_000_00
	upTo := func(more ...string) []string {
		return append([]string{"action CreateCustomer", "action RegisterApplicant", "action CheckCredit"}, more...)
	}
	for _, test := range []struct {
		name    string
		acme    *company
		check   string // the check that the card is based on; empty without a card
		carries func(error) bool
		want    []string
	}{
		{name: "granted", check: "checks/new", want: upTo("action IssueCard", "action SendWelcome")},
		{
			name: "forgotten before the welcome", check: "checks/new",
			acme: &company{refusals: map[string]error{"SendWelcome": status.Error(codes.FailedPrecondition,
				"the customer was forgotten")}},
			want: upTo("action IssueCard", "action SendWelcome"),
		},
		{
			name:    "refused by the customer service",
			acme:    &company{refusals: map[string]error{"CreateCustomer": refused(t, &customerv1.EmailTaken{})}},
			carries: carries[*customerv1.EmailTaken],
			want:    []string{"action CreateCustomer"},
		},
		{
			name: "refused by the identity register",
			acme: &company{refusals: map[string]error{"RegisterApplicant": refused(t,
				&identityv1.ApplicantRejected{})}},
			carries: carries[*identityv1.ApplicantRejected],
			want:    []string{"action CreateCustomer", "action RegisterApplicant", "compensation RemoveCustomer"},
		},
		{
			name:    "declined by the credit check",
			acme:    &company{refusals: map[string]error{"CheckCredit": refused(t, &creditv1.CreditDeclined{})}},
			carries: carries[*creditv1.CreditDeclined],
			want:    upTo("compensation WithdrawApplicant", "compensation RemoveCustomer"),
		},
		{
			name:    "refused by the card service",
			acme:    &company{refusals: map[string]error{"IssueCard": refused(t, &cardv1.LimitNotOffered{})}},
			carries: carries[*cardv1.LimitNotOffered],
			want: upTo("action IssueCard",
				"compensation AbandonCheck", "compensation WithdrawApplicant", "compensation RemoveCustomer"),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			acme := test.acme
			if acme == nil {
				acme = &company{}
			}
			granted, err := cardv1.NewCardSagasClient(open(t, acme)).IssueCard(t.Context(),
				&cardv1.IssueCardSagaRequest{
					RequestId: "apply", Product: "classic", LimitCents: limit,
					Person: &cardv1.Person{DisplayName: "Ada", Email: "ada@example.com", PassportNumber: "AB12345",
						NationalId: "ada-1815"},
					Postal: &cardv1.Postal{Lines: []string{"Oude Delft 1"}, City: "Delft", Country: "NL"},
				}, grpc.WaitForReady(true))
			switch {
			case test.check != "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.check != "" && (granted.GetCheck() != test.check || granted.GetCard() != "cards/ada" ||
				granted.GetApplicant() != "applicants/ada"):
				t.Errorf("granted %v, want cards/ada for applicants/ada, based on %s", granted, test.check)
			case test.check == "" && (status.Code(err) != codes.FailedPrecondition || !test.carries(err)):
				t.Errorf("got %v with the details %v, want the refusal with its rejection", err,
					status.Convert(err).Details())
			}
			if diff := cmp.Diff(test.want, acme.seen()); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}
