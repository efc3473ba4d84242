package main

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	"github.com/treatyhq/treaty/gen/acme/card/v1/cardv1saga"
	creditv1 "github.com/treatyhq/treaty/gen/acme/credit/v1"
	"github.com/treatyhq/treaty/gen/acme/credit/v1/creditv1saga"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	"github.com/treatyhq/treaty/gen/acme/customer/v1/customerv1saga"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	"github.com/treatyhq/treaty/gen/acme/identity/v1/identityv1saga"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

// checked returns a credit check from some time ago.
func checked(ago time.Duration, limitCents int64) *creditv1.Check {
	return &creditv1.Check{
		Name: "checks/old", CheckTime: timestamppb.New(time.Now().Add(-ago)), ApprovedLimitCents: limitCents,
	}
}

// applyingForACard is an application for a limit of 1,000 euros.
func applyingForACard() *cardv1.IssueCardSagaRequest {
	return &cardv1.IssueCardSagaRequest{
		RequestId: "apply", Product: "classic", LimitCents: 1_000_00,
		Person: &cardv1.Person{DisplayName: "Ada", Email: "ada@example.com", PassportNumber: "AB12345",
			NationalId: "ada-1815"},
		Postal: &cardv1.Postal{Lines: []string{"Oude Delft 1"}, City: "Delft", Country: "NL"},
	}
}

func TestIssueCard(t *testing.T) {
	limit := applyingForACard().GetLimitCents()
	asked := func(more ...string) []string {
		return append([]string{"action CreateCustomer", "action RegisterApplicant", "action GetLastCheck"}, more...)
	}
	upTo := func(more ...string) []string { return append(asked("action CheckCredit"), more...) }
	granted := upTo("action IssueCard", "action SendWelcome")
	for _, test := range []struct {
		name    string
		acme    *company
		check   string // the check that the card is based on; empty without a card
		carries func(error) bool
		want    []string
	}{
		{name: "to a person who was never checked", check: "checks/new", want: granted},
		{
			name: "to a person who was checked today", acme: &company{lastCheck: checked(23*time.Hour, limit)},
			check: "checks/reused",
			want:  asked("action ReuseCheck", "action IssueCard", "action SendWelcome"),
		},
		{
			name: "to a person who was checked yesterday", acme: &company{lastCheck: checked(25*time.Hour, limit)},
			check: "checks/new", want: granted,
		},
		{
			name: "to a person who was checked today for less", acme: &company{lastCheck: checked(time.Hour, limit-1)},
			check: "checks/new", want: granted,
		},
		{
			name: "to a person whose earlier check was forgotten just now", check: "checks/new",
			acme: &company{lastCheck: checked(time.Hour, limit), refusals: map[string]error{
				"ReuseCheck": status.Error(codes.NotFound, "no such check"),
			}},
			want: asked("action ReuseCheck", "action CheckCredit", "action IssueCard", "action SendWelcome"),
		},
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
		{
			name: "refused by the card service to a person who was checked today",
			acme: &company{lastCheck: checked(time.Hour, limit), refusals: map[string]error{"IssueCard": refused(t,
				&cardv1.LimitNotOffered{})}},
			carries: carries[*cardv1.LimitNotOffered],
			want: asked("action ReuseCheck", "action IssueCard",
				"compensation ReleaseCheck", "compensation WithdrawApplicant", "compensation RemoveCustomer"),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			acme := test.acme
			if acme == nil {
				acme = &company{}
			}
			reply, err := cardv1.NewCardSagasClient(open(t, acme)).IssueCard(t.Context(),
				applyingForACard(), grpc.WaitForReady(true))
			switch {
			case test.check != "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.check != "" && (reply.GetCheck() != test.check || reply.GetCard() != "cards/ada" ||
				reply.GetApplicant() != "applicants/ada"):
				t.Errorf("granted %v, want cards/ada for applicants/ada, based on %s", reply, test.check)
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

// leftToTheService is the beginning of IssueCard from before it decided whether a check is needed.
type leftToTheService struct{}

func (leftToTheService) IssueCard(
	ctx saga.Context, in *cardv1.IssueCardSagaRequest,
) (*cardv1.CardGranted, error) {
	customer, err := customerv1saga.CreateCustomer(ctx, &customerv1.CreateCustomerRequest{
		DisplayName: in.GetPerson().GetDisplayName(), Email: in.GetPerson().GetEmail(), Address: homeAt(in.GetPostal()),
	})
	if err != nil {
		return nil, err
	}
	if _, err := identityv1saga.RegisterApplicant(ctx, &identityv1.RegisterApplicantRequest{
		Customer: customer.GetCustomer(), DisplayName: in.GetPerson().GetDisplayName(),
		PassportNumber: in.GetPerson().GetPassportNumber(),
	}); err != nil {
		return nil, err
	}
	_, err = creditv1saga.CheckCredit(ctx, &creditv1.CheckCreditRequest{
		NationalId: in.GetPerson().GetNationalId(), YearlyIncomeCents: in.GetPerson().GetYearlyIncomeCents(),
		RequestedLimitCents: in.GetLimitCents(), Customer: customer.GetCustomer(),
	})
	return nil, err
}

// TestApplicationFromBeforeTheSagaDecided starts an application with the earlier code, and continues with the current
// one while its check is in flight. It ends as it began, without another question.
func TestApplicationFromBeforeTheSagaDecided(t *testing.T) {
	acme := &company{
		lastCheck: checked(time.Hour, applyingForACard().GetLimitCents()), turnedAway: make(chan string, 1),
		refusals: map[string]error{"CheckCredit": status.Error(codes.Unavailable, "not now")},
	}
	store, participants := filepath.Join(t.TempDir(), "treaty.db"), acme.open(t)
	conn, stop := orchestrate(t, acme, store, participants,
		func(r saga.Registrar) { cardv1saga.RegisterCardSagas(r, leftToTheService{}) })
	started, err := treatyv1.NewSagaServiceClient(conn).CreateSaga(t.Context(), &treatyv1.CreateSagaRequest{
		Definition: "acme.card.v1.CardSagas/IssueCard", Request: packed(t, applyingForACard()),
	})
	if err != nil {
		t.Fatal(err)
	}
	<-acme.turnedAway
	stop()
	acme.allow("CheckCredit")
	conn, _ = orchestrate(t, acme, store, participants, register)
	await(t, treatyv1.NewSagaServiceClient(conn), started.GetName(), func(s *treatyv1.Saga) bool {
		if s.GetSuspension() != nil {
			t.Fatalf("the saga is suspended: %v", s.GetSuspension())
		}
		return s.GetState() == treatyv1.SagaState_SAGA_STATE_SUCCEEDED
	})
	seen := slices.Compact(acme.seen()) // The check was sent again until it was made.
	if diff := cmp.Diff([]string{"action CreateCustomer", "action RegisterApplicant", "action CheckCredit",
		"action IssueCard", "action SendWelcome"}, seen); diff != "" {
		t.Errorf("commands (-want +got):\n%s", diff)
	}
}
