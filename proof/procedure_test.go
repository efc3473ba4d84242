//go:build proof

package proof

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// fate is what becomes of a saga around a backup that is restored.
type fate struct {
	id         string
	definition string
	request    proto.Message

	afterBackup bool // it starts after the backup, else before it

	// until says how far it is at the backup. Nil means that it has ended.
	until func(saga *treatyv1.Saga) bool

	// then is what happens between the backup and the restore.
	then func(t *testing.T, p *procedure, name string)

	ends      treatyv1.SagaState // how it ends after the restore
	published bool               // the event that it awaits is published again after the restore

	name, applicant string
}

// procedure is one run through the documented procedure.
type procedure struct {
	acme *company.Company
}

func (p *procedure) sagas() treatyv1.SagaServiceClient {
	return treatyv1.NewSagaServiceClient(p.acme.Conn(company.Orchestrator))
}

// awaitsEvent returns whether a saga awaits an event.
func awaitsEvent(saga *treatyv1.Saga) bool {
	return slices.ContainsFunc(saga.GetWaits(), func(w *treatyv1.Wait) bool { return len(w.GetEvents()) > 0 })
}

// atPivot returns whether a saga has sent its pivot.
func atPivot(saga *treatyv1.Saga) bool {
	return slices.ContainsFunc(saga.GetSteps(), func(s *treatyv1.Step) bool {
		return strings.HasSuffix(s.GetMethod(), "/IssueCard")
	})
}

// TestBackupProcedure goes through the documented procedure of a restore with one saga of each fate: those that waited,
// slept, succeeded, were cancelled, passed their pivot, timed out, or were started after the backup.
func TestBackupProcedure(t *testing.T) {
	const (
		succeeded   = treatyv1.SagaState_SAGA_STATE_SUCCEEDED
		compensated = treatyv1.SagaState_SAGA_STATE_COMPENSATED
	)
	ctx := t.Context()
	p := &procedure{acme: openQuick(t)}
	given, customers := createCustomers(ctx, t, p.acme, "Mover")
	verify := func(id string, within time.Duration) proto.Message {
		return &identityv1.VerifyApplicantRequest{
			RequestId: id, Customer: customers[0], DisplayName: "Person " + id, PassportNumber: "ZZ0000001",
			ConfirmWithin: durationpb.New(within),
		}
	}
	move := func(id string) proto.Message {
		return &customerv1.ChangeAddressSagaRequest{
			RequestId: id, Customer: customers[1],
			Address: &customerv1.Address{Lines: []string{"Street " + id}, City: "Delft", Country: "NL"},
		}
	}
	home := &cardv1.Postal{Lines: []string{"Long Street 1"}, PostalCode: "2611 AA", City: "Delft", Country: "NL"}
	person := func(id string) *cardv1.Person {
		return &cardv1.Person{DisplayName: "Person " + id, Email: id + "@example.com", NationalId: "nid-" + id,
			PassportNumber: "PP0000001", YearlyIncomeCents: 90_000_00}
	}
	ends := func(state treatyv1.SagaState) func(*testing.T, *procedure, string) {
		return func(t *testing.T, p *procedure, name string) {
			t.Helper()
			p.ends(ctx, t, name, state)
		}
	}
	fates := []*fate{
		{id: "waits", definition: verifyApplicant, request: verify("waits", time.Hour), until: awaitsEvent,
			ends: succeeded, published: true},
		{id: "woken", definition: verifyApplicant, request: verify("woken", time.Hour), until: awaitsEvent,
			then: func(t *testing.T, p *procedure, name string) {
				t.Helper()
				publish(ctx, t, p.acme, awaited(t, p.acme, name))
				p.ends(ctx, t, name, succeeded)
			}, ends: succeeded, published: true},
		{id: "cancelled", definition: verifyApplicant, request: verify("cancelled", time.Hour), until: awaitsEvent,
			then: func(t *testing.T, p *procedure, name string) {
				t.Helper()
				if _, err := p.sagas().CancelSaga(ctx, &treatyv1.CancelSagaRequest{
					Name: name, Decision: &treatyv1.Decision{Actor: "proof", Reason: "not needed"},
				}); err != nil {
					t.Fatal(err)
				}
				p.ends(ctx, t, name, compensated)
			}, ends: compensated},
		{id: "timed-out", definition: verifyApplicant, request: verify("timed-out", 8*time.Second), until: awaitsEvent,
			then: ends(compensated), ends: compensated},
		{id: "sleeps", definition: issueFamilyCards, request: &cardv1.IssueFamilyCardsRequest{
			RequestId: "sleeps", Product: "gold", LimitCents: 2_000_00, CoolingOff: durationpb.New(8 * time.Second),
			Head: person("sleeps"), Postal: home,
		}, until: coolsOff, then: ends(succeeded), ends: succeeded},
		{id: "done", definition: changeAddress, request: move("done"), ends: succeeded},
		{id: "pivot", definition: issueCard, request: &cardv1.IssueCardSagaRequest{
			RequestId: "pivot", Product: "classic", LimitCents: 1_000_00, Person: person("pivot"), Channel: "proof",
			Postal: home,
		}, until: atPivot, then: ends(succeeded), ends: succeeded},
		{id: "lost", definition: changeAddress, request: move("lost"), afterBackup: true, then: ends(succeeded),
			ends: succeeded},
	}
	// The pivot can't be sent while the card service is down, so its saga comes last.
	start := func(f *fate) {
		if f.until != nil && f.definition == issueCard {
			if err := p.acme.Process(company.Card).Kill(); err != nil {
				t.Fatal(err)
			}
		}
		f.name = begin(ctx, t, p.acme, f.definition, f.request)
		if f.until == nil {
			p.ends(ctx, t, f.name, f.ends)
		} else {
			see(ctx, t, p.acme, f.name, f.until)
		}
		if f.definition == verifyApplicant {
			f.applicant = awaited(t, p.acme, f.name)
		}
	}
	for _, f := range fates {
		if !f.afterBackup {
			start(f)
		}
	}
	began := time.Now()
	backup := filepath.Join(p.acme.Dir, "backup.db")
	if err := p.acme.Backup(ctx, backup); err != nil {
		t.Fatal(err)
	}
	if err := p.acme.Process(company.Card).Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range fates {
		if f.afterBackup {
			start(f)
		}
		if f.then != nil {
			f.then(t, p, f.name)
		}
	}

	if err := p.acme.Restore(ctx, backup); err != nil {
		t.Fatal(err)
	}
	if err := p.acme.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	restore := audit.Restore{Backup: began, Done: time.Now()}
	for _, f := range fates {
		if f.afterBackup {
			if again := begin(ctx, t, p.acme, f.definition, f.request); again != f.name {
				t.Errorf("%s was %s, and is %s now", f.id, f.name, again)
			}
		}
	}
	for _, f := range fates {
		if f.published {
			publish(ctx, t, p.acme, f.applicant)
		}
	}
	var starts []audit.Start
	for _, f := range fates {
		p.ends(ctx, t, f.name, f.ends)
		starts = append(starts, audit.Start{Definition: f.definition, RequestID: f.id, Saga: f.name, Told: f.ends})
	}
	facts, disagreements := gather(ctx, t, p.acme)
	facts.Given, facts.Restores, facts.Starts = given, []audit.Restore{restore}, starts
	report := audit.Check(facts)
	t.Log("\n" + report.String())
	for _, d := range disagreements {
		t.Error("the services disagree:", d)
	}
	if n := len(report.Violations) + len(report.Lost) + len(report.ByHand); n > 0 || report.Counts.DecidedByPerson > 0 {
		t.Errorf("%d violations, lost sagas and commands that are left to a person; want none", n)
	}
	if report.Counts.CaughtUp < 4 {
		t.Errorf("%d sagas caught up, want at least 4", report.Counts.CaughtUp)
	}
}

// ends waits until a saga has ended, and checks how.
func (p *procedure) ends(ctx context.Context, t *testing.T, name string, want treatyv1.SagaState) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	saga, err := p.sagas().WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: name})
	if err != nil {
		showOpen(t, p.acme)
		t.Fatalf("waiting for %s: %v", name, err)
	}
	if saga.GetState() != want {
		t.Errorf("%s, a %s, ended as %s, want %s: %v", name, saga.GetDefinition(), saga.GetState(), want,
			saga.GetSuspension())
	}
}
