//go:build proof

package proof

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// stage is a part of a coexistence: some processes are replaced by their newer programs, one after the other, and then
// some are killed.
type stage struct {
	replaced []string

	// end ends each of the processes to replace.
	end func(*company.Process) error
}

// coexistence is an ordeal of a company with older and newer programs.
type coexistence struct {
	name   string
	newer  []string // the processes that are newer from the start
	stages []stage  // what follows
	env    []string // the environment of the processes
}

// TestOldAndNew runs programs from before participants marked their answers together with those of today. It kills them
// under load, replaces older ones by newer ones while sagas are in flight, and audits what is left.
func TestOldAndNew(t *testing.T) {
	both := buildBoth(t)
	stop, kill := (*company.Process).Stop, (*company.Process).Kill
	participants, orchestrator := company.Participants(), []string{company.Orchestrator}
	for i, test := range []coexistence{
		{name: "older orchestrator, newer participants", newer: participants},
		{name: "newer orchestrator, older participants", newer: orchestrator},
		{name: "participants first", stages: []stage{{participants, stop}, {orchestrator, stop}}},
		{name: "the orchestrator first", stages: []stage{{orchestrator, stop}, {participants, stop}}},
		{name: "participants first, after crashes", stages: []stage{{participants, kill}, {orchestrator, kill}}},
		{name: "the orchestrator first, after crashes", stages: []stage{{orchestrator, kill}, {participants, kill}}},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, both, uint64(i+1)) })
	}
	t.Run("an older orchestrator refuses a newer store", func(t *testing.T) { rollBack(t, both) })
}

// run runs the coexistence and judges what is left.
func (c coexistence) run(t *testing.T, both builds, seed uint64) {
	ctx := t.Context()
	o := ordeal{kills: 7, inFlight: 12, moment: 400 * time.Millisecond, heal: longestHeal, seed: seed}
	ages := allOf(older)
	for _, name := range c.newer {
		ages[name] = newer
	}
	m := openMixture(t, both, ages, company.Params{
		RegisterLatency: 100 * time.Millisecond, RegisterDecidesAfter: 200 * time.Millisecond,
		InspectionTakes: 200 * time.Millisecond, Env: c.env,
	})
	given, customers := createCustomers(ctx, t, m.Company, "Mover")
	leaving, leavers := createCustomers(ctx, t, m.Company, "Leaver")
	s := startSleepers(ctx, t, m.Company, customers[0])
	clients, told := o.load(t, m.Company, customers, leavers)
	t.Logf("killed: %s", o.kill(t, m.Company))
	for _, stage := range c.stages {
		open := inFlightNow(ctx, t, m.Company)
		for _, name := range stage.replaced {
			m.replace(t, name, newer, stage.end)
		}
		t.Logf("replaced %s with %d sagas in flight", strings.Join(stage.replaced, ", "), open)
		if open <= len(s) {
			t.Errorf("%d sagas were in flight, of which %d only waited: the test tests too little", open, len(s))
		}
		if err := m.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		m.check(t)
		t.Logf("killed: %s", o.kill(t, m.Company))
	}
	told.stop()
	if t.Failed() {
		t.FailNow()
	}
	s.wake(ctx, t, m.Company)
	awaitFinal(ctx, t, m.Company, o.heal)

	facts := gather(ctx, t, m.Company)
	facts.Given = append(given, leaving...)
	for _, client := range clients {
		for start := range maps.Values(client.starts) {
			facts.Starts = append(facts.Starts, *start)
		}
	}
	for _, sleeper := range s {
		facts.Starts = append(facts.Starts, sleeper.start())
	}
	report := audit.Check(facts)
	t.Logf("%d calls of clients, %d of them repeated\n%s", told.calls.Load(), told.retries.Load(), report)
	judge(t, report)
}

// inFlightNow returns the number of sagas that haven't ended.
func inFlightNow(ctx context.Context, t *testing.T, acme *company.Company) int {
	t.Helper()
	if err := acme.ReadyProcess(ctx, company.Orchestrator); err != nil {
		t.Fatal(err)
	}
	open, err := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator)).ListSagas(ctx,
		&treatyv1.ListSagasRequest{PageSize: 1000, Filter: stillOpen})
	if err != nil {
		t.Fatal(err)
	}
	return len(open.GetSagas())
}

// sleeper is a saga that waits for the whole coexistence, so that what one program has begun another one ends.
type sleeper struct {
	definition, request string

	saga string
	ends treatyv1.SagaState // how it ends
	// asked makes it end.
	asked func(context.Context, *testing.T, *company.Company)
}

type sleepers []*sleeper

// startSleepers starts sagas that wait: for an event that comes, for an event that doesn't, and for the end of a long
// sleep. The latter two are canceled, so that newer programs undo what older ones did, with children and commands that
// were completed long after they were accepted.
func startSleepers(ctx context.Context, t *testing.T, acme *company.Company, customer string) sleepers {
	t.Helper()
	anHour := durationpb.New(time.Hour)
	verify := func(id string) string {
		return begin(ctx, t, acme, verifyApplicant, &identityv1.VerifyApplicantRequest{
			RequestId: id, Customer: customer, DisplayName: "Sleeper", PassportNumber: "ZZ0000001",
			ConfirmWithin: anHour,
		})
	}
	woken := &sleeper{definition: verifyApplicant, request: "woken", saga: verify("woken"),
		ends: treatyv1.SagaState_SAGA_STATE_SUCCEEDED}
	canceled := &sleeper{definition: verifyApplicant, request: "canceled", saga: verify("canceled")}
	family := &sleeper{definition: issueFamilyCards, request: "family"}
	head := &cardv1.Person{DisplayName: "Sleeper", Email: "sleeper@example.com", NationalId: "nid-sleeper",
		PassportNumber: "PP0000001", YearlyIncomeCents: 90_000_00}
	family.saga = begin(ctx, t, acme, issueFamilyCards, &cardv1.IssueFamilyCardsRequest{
		RequestId: family.request, Product: "gold", LimitCents: 2_000_00, Head: head, CoolingOff: anHour,
		Postal: &cardv1.Postal{Lines: []string{"Long Street 1"}, PostalCode: "2611 AA", City: "Delft", Country: "NL"},
	})
	applicant := awaited(t, acme, woken.saga)
	awaited(t, acme, canceled.saga)
	coolsOff(ctx, t, acme, family.saga)
	woken.asked = func(ctx context.Context, t *testing.T, acme *company.Company) { publish(ctx, t, acme, applicant) }
	for _, s := range []*sleeper{canceled, family} {
		s.ends = treatyv1.SagaState_SAGA_STATE_COMPENSATED
		s.asked = func(ctx context.Context, t *testing.T, acme *company.Company) {
			_, err := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator)).CancelSaga(ctx,
				&treatyv1.CancelSagaRequest{
					Name: s.saga, Decision: &treatyv1.Decision{Actor: "proof", Reason: "time is up"},
				})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return sleepers{woken, canceled, family}
}

// coolsOff waits until a family's saga is in its long sleep.
func coolsOff(ctx context.Context, t *testing.T, acme *company.Company, saga string) {
	t.Helper()
	stream, err := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator)).WatchSaga(ctx,
		&treatyv1.WatchSagaRequest{Name: saga})
	if err != nil {
		t.Fatal(err)
	}
	for {
		change, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var progress cardv1.FamilyProgress
		if change.GetSaga().GetProgress().UnmarshalTo(&progress) == nil &&
			progress.GetStage() == cardv1.FamilyStage_FAMILY_STAGE_COOLING_OFF {
			return
		}
	}
}

// wake makes the sagas end, and checks how.
func (all sleepers) wake(ctx context.Context, t *testing.T, acme *company.Company) {
	t.Helper()
	if err := acme.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		s.asked(ctx, t, acme)
	}
	for _, s := range all {
		ended, err := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator)).WaitSaga(ctx,
			&treatyv1.WaitSagaRequest{Name: s.saga})
		if err != nil {
			t.Fatal(err)
		}
		if ended.GetState() != s.ends {
			t.Errorf("the saga %s, which waited, ended as %s, want %s", s.request, ended.GetState(), s.ends)
		}
	}
}

// start is the sleeper's start for the audit.
func (s *sleeper) start() audit.Start {
	return audit.Start{Definition: s.definition, RequestID: s.request, Saga: s.saga, Told: s.ends}
}

// rollBack rolls an orchestrator back behind its newer store. The older one doesn't start, says why, and leaves the
// store as it is.
func rollBack(t *testing.T, both builds) {
	ctx := t.Context()
	m := openMixture(t, both, allOf(newer), company.Params{})
	_, customers := createCustomers(ctx, t, m.Company, "Leaver")
	forget(ctx, t, m.Company, customers[0])

	m.replace(t, company.Orchestrator, older, (*company.Process).Stop)
	var died *company.DiedError
	if err := m.ReadyProcess(ctx, company.Orchestrator); !errors.As(err, &died) {
		t.Fatalf("waiting for the older orchestrator: %v; want that it ended", err)
	}
	said := m.Process(company.Orchestrator).Tail(1)
	t.Logf("the older orchestrator said: %s", said)
	for _, want := range []string{m.Store(), "newer"} {
		if !strings.Contains(said, want) {
			t.Errorf("it doesn't say %q", want)
		}
	}

	m.replace(t, company.Orchestrator, newer, (*company.Process).Stop)
	if err := m.ReadyProcess(ctx, company.Orchestrator); err != nil {
		t.Fatal(err)
	}
	forget(ctx, t, m.Company, customers[1])
	sagas, err := m.Sagas(ctx)
	if err != nil {
		t.Fatal(err)
	}
	succeeded := slices.DeleteFunc(sagas, func(s audit.Saga) bool {
		return s.View.GetState() != treatyv1.SagaState_SAGA_STATE_SUCCEEDED
	})
	if len(succeeded) != 2 {
		t.Errorf("%d sagas succeeded, want one before and one after", len(succeeded))
	}
}
