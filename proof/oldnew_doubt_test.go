//go:build proof

package proof

import (
	"context"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/hostile"
	"github.com/treatyhq/treaty/services/demo/company"
)

// refusalInDoubt is what follows when the card service refuses a pivot, the answer gets lost, and the next attempt gets
// the refusal.
type refusalInDoubt struct {
	name  string
	newer []string // the processes that are newer
	env   []string
	stuck bool // the saga is suspended until the card service is upgraded and a person retries
}

// refusalsInDoubt are those with every mixture of a card service and an orchestrator that isn't newer on both sides.
func refusalsInDoubt() []refusalInDoubt {
	orchestrator := []string{company.Orchestrator}
	return []refusalInDoubt{
		{name: "older ones"},
		{name: "older orchestrator", newer: []string{company.Card}},
		{name: "older card service", newer: orchestrator, stuck: true},
		{name: "older card service, declared", newer: orchestrator, env: declaredSettled()},
	}
}

// run runs one saga. However it gets there, it is compensated.
func (r refusalInDoubt) run(t *testing.T, both builds) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	m := &mixture{builds: both, ages: allOf(older)}
	for _, name := range r.newer {
		m.ages[name] = newer
	}
	m.open(t, company.Params{Env: r.env, Between: func(participant, address string) (string, error) {
		if participant != company.Card {
			return address, nil
		}
		middle, err := hostile.Listen(address, hostile.Options{})
		if err != nil {
			return "", err
		}
		t.Cleanup(middle.Close)
		middle.Program(loseFirst(cardv1.CardService_IssueCard_FullMethodName))
		return middle.Addr(), nil
	}})
	sagas := treatyv1.NewSagaServiceClient(m.Conn(company.Orchestrator))
	saga := begin(ctx, t, m.Company, issueCard, &cardv1.IssueCardSagaRequest{
		RequestId: "refused", Product: "classic", LimitCents: 6_000_00, Channel: "proof",
		Person: &cardv1.Person{DisplayName: "Ada", Email: "ada@example.com", NationalId: "nid-ada",
			PassportNumber: "PP0000001", YearlyIncomeCents: 90_000_00},
		Postal: &cardv1.Postal{Lines: []string{"Long Street 1"}, PostalCode: "2611 AA", City: "Delft", Country: "NL"},
	})
	got := see(ctx, t, m.Company, saga, func(s *treatyv1.Saga) bool {
		return s.GetEndTime() != nil || s.GetSuspension() != nil
	})
	suspended := got.GetSuspension()
	stuck := suspended.GetReason() == treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN
	if stuck != r.stuck {
		t.Fatalf("the saga is %s with the suspension %v; it should be stuck on a pivot of unknown outcome: %t",
			got.GetState(), suspended, r.stuck)
	}
	if r.stuck {
		if code := codes.Code(suspended.GetFailure().GetCode()); code != codes.OutOfRange {
			t.Errorf("the suspension shows %s, want the refusal", code)
		}
		m.replace(t, company.Card, newer, (*company.Process).Stop)
		if err := m.ReadyProcess(ctx, company.Card); err != nil {
			t.Fatal(err)
		}
		if _, err := sagas.ResumeSaga(ctx, &treatyv1.ResumeSagaRequest{
			Name: saga, Decision: &treatyv1.Decision{Actor: "operator", Reason: "the card service is upgraded"},
			How: &treatyv1.ResumeSagaRequest_Retry_{Retry: &treatyv1.ResumeSagaRequest_Retry{}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	ended, err := sagas.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: saga})
	if err != nil || ended.GetState() != treatyv1.SagaState_SAGA_STATE_COMPENSATED {
		t.Errorf("the saga ended as %s, %v; want COMPENSATED", ended.GetState(), err)
	}
	holdings, err := m.Holdings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(holdings.Customers)+len(holdings.Applicants)+len(holdings.Cards) > 0 {
		t.Errorf("there are still the customers %v, the applicants %v and the cards %v", holdings.Customers,
			holdings.Applicants, holdings.Cards)
	}
}

// loseFirst loses the answer to the first call of a method.
func loseFirst(method string) hostile.Program {
	return func(call *hostile.Call) hostile.Plan {
		if call.Method != method || call.PerMethod > 1 {
			return hostile.Pass()
		}
		return hostile.Give(hostile.Reset(http2.ErrCodeInternal), hostile.AfterAnswer)
	}
}
