//go:build proof

package proof

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	cardv1 "github.com/treatyhq/treaty/gen/acme/card/v1"
	identityv1 "github.com/treatyhq/treaty/gen/acme/identity/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// atMost is how long a part of TestOldAndNew may take.
const atMost = 5 * time.Minute

// stage is a part of a coexistence: some processes are replaced by their programs of another age, one after the other.
// Then processes are killed at random.
type stage struct {
	replaced []string
	by       age

	// end ends each of the processes to replace.
	end func(*company.Process) error
}

// coexistence is an ordeal of a company with older and newer programs.
type coexistence struct {
	name   string
	newer  []string // the processes that are newer from the start
	stages []stage  // what follows

	typeScript bool     // run the notification service in TypeScript if it can run here
	env        []string // the environment of the processes
	persons    bool     // persons may have to retry pivots that older participants refused in doubt

	// firstTime says that nobody applies for a card a second time. The newer sagas of those who do reuse the credit
	// check. An older credit service doesn't know how, so they wait until it is replaced.
	firstTime bool
}

// TestOldAndNew runs programs from before participants marked their answers together with those of today. It kills them
// under load, replaces older ones by newer ones while sagas are in flight, and audits what is left.
func TestOldAndNew(t *testing.T) {
	chosen := *seed
	if chosen == 0 {
		chosen = rand.Uint64()
	}
	t.Logf("seed %d", chosen)
	both := buildBoth(t)
	stop, kill := (*company.Process).Stop, (*company.Process).Kill
	participants, orchestrator := company.Participants(), []string{company.Orchestrator}
	for i, test := range []coexistence{
		{name: "older orchestrator, newer participants", newer: participants, typeScript: true},
		{
			name: "newer orchestrator, older participants", newer: orchestrator, typeScript: true,
			env: declaredSettled(), firstTime: true,
		},
		{
			name: "participants first", typeScript: true,
			stages: []stage{{participants, newer, stop}, {orchestrator, newer, stop}},
		},
		{
			name: "the orchestrator first", typeScript: true, persons: true,
			stages: []stage{{orchestrator, newer, stop}, {participants, newer, stop}},
		},
		{
			name:   "participants first, after crashes",
			stages: []stage{{participants, newer, kill}, {orchestrator, newer, kill}},
		},
		{
			name: "the orchestrator first, after crashes", persons: true,
			stages: []stage{{orchestrator, newer, kill}, {participants, newer, kill}},
		},
		{
			// The orchestrator knows that participants mark their answers, so refusals wait until they do again.
			name:  "participants rolled back and upgraded again",
			newer: slices.Concat(participants, orchestrator), typeScript: true,
			stages: []stage{{participants, older, stop}, {participants, newer, stop}},
		},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, both, chosen+uint64(i)) })
	}
	for _, test := range refusalsInDoubt() {
		t.Run("a refusal in doubt, "+test.name, func(t *testing.T) { test.run(t, both) })
	}
	t.Run("an older orchestrator refuses a newer store", func(t *testing.T) { rollBack(t, both) })
}

// declaredSettled is an environment that declares the participants to be older ones whose refusals all come from their
// inboxes. Otherwise a person has to decide when they refuse a pivot after an attempt without an answer.
func declaredSettled() []string {
	var answers []string
	for _, service := range allServices() {
		answers = append(answers, service+"=settled")
	}
	return []string{"TREATY_ANSWERS=" + strings.Join(answers, ";")}
}

// run runs the coexistence and judges what is left.
func (c coexistence) run(t *testing.T, both builds, seed uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	o := ordeal{kills: 14, inFlight: 16, moment: 400 * time.Millisecond, heal: longestHeal, seed: seed,
		firstTime: c.firstTime}
	ages := allOf(older)
	for _, name := range c.newer {
		ages[name] = newer
	}
	m := &mixture{builds: both, ages: ages, typeScript: c.typeScript}
	m.open(t, company.Params{
		RegisterLatency: 100 * time.Millisecond, RegisterDecidesAfter: 200 * time.Millisecond,
		InspectionTakes: 200 * time.Millisecond, Env: c.env,
	})
	given, customers := createCustomers(ctx, t, m.Company, "Mover")
	leaving, leavers := createCustomers(ctx, t, m.Company, "Leaver")
	s := startSleepers(ctx, t, m.Company, customers[0])
	persons := &operator{}
	retire := sync.OnceFunc(persons.operate(t, m.Company))
	defer retire()
	clients, told := o.load(t, m.Company, customers, leavers)
	t.Logf("killed: %s", o.kill(t, m.Company))
	for _, stage := range c.stages {
		open := inFlightNow(ctx, t, m.Company)
		for _, name := range stage.replaced {
			m.replace(t, name, stage.by, stage.end)
		}
		t.Logf("replaced %s by %s ones with %d sagas in flight", strings.Join(stage.replaced, ", "), stage.by, open)
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
	retire()

	facts, disagreements := gather(ctx, t, m.Company)
	for _, d := range disagreements {
		t.Error("the services disagree:", d)
	}
	facts.Given = append(given, leaving...)
	for _, client := range clients {
		for _, start := range client.starts {
			facts.Starts = append(facts.Starts, *start)
		}
	}
	for _, sleeper := range s {
		facts.Starts = append(facts.Starts, sleeper.Start)
	}
	report := audit.Check(facts)
	t.Logf("%d calls of clients, %d of them repeated\n%s%s", told.calls.Load(), told.retries.Load(), persons, report)
	judge(t, report)
	for what, n := range persons.decided {
		if !c.persons || !strings.HasSuffix(what, "_UNKNOWN") {
			t.Errorf("persons had to decide %d sagas: %s", n, what)
		}
	}
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
	audit.Start // with the state in which it has to end

	applicant string // about whom it awaits an event; if it is empty, the saga is cancelled
}

type sleepers []sleeper

// startSleepers starts sagas that wait: for an event that comes, for an event that doesn't, and for the end of a long
// sleep. The latter two are cancelled, so that newer programs undo what older ones did, with child sagas and commands
// that were completed long after they were accepted.
func startSleepers(ctx context.Context, t *testing.T, acme *company.Company, customer string) sleepers {
	t.Helper()
	anHour := durationpb.New(time.Hour)
	start := func(definition, id string, request proto.Message, ends treatyv1.SagaState) sleeper {
		return sleeper{Start: audit.Start{
			Definition: definition, RequestID: id, Saga: begin(ctx, t, acme, definition, request), Told: ends,
		}}
	}
	verify := func(id string, ends treatyv1.SagaState) sleeper {
		return start(verifyApplicant, id, &identityv1.VerifyApplicantRequest{
			RequestId: id, Customer: customer, DisplayName: "Sleeper", PassportNumber: "ZZ0000001",
			ConfirmWithin: anHour,
		}, ends)
	}
	woken := verify("woken", treatyv1.SagaState_SAGA_STATE_SUCCEEDED)
	cancelled := verify("cancelled", treatyv1.SagaState_SAGA_STATE_COMPENSATED)
	family := start(issueFamilyCards, "family", &cardv1.IssueFamilyCardsRequest{
		RequestId: "family", Product: "gold", LimitCents: 2_000_00, CoolingOff: anHour,
		Head: &cardv1.Person{DisplayName: "Sleeper", Email: "sleeper@example.com", NationalId: "nid-sleeper",
			PassportNumber: "PP0000001", YearlyIncomeCents: 90_000_00},
		Postal: &cardv1.Postal{Lines: []string{"Long Street 1"}, PostalCode: "2611 AA", City: "Delft", Country: "NL"},
	}, treatyv1.SagaState_SAGA_STATE_COMPENSATED)
	woken.applicant = awaited(t, acme, woken.Saga)
	awaited(t, acme, cancelled.Saga)
	see(ctx, t, acme, family.Saga, coolsOff)
	return sleepers{woken, cancelled, family}
}

// see watches a saga until it is as wanted, and returns it.
func see(
	ctx context.Context, t *testing.T, acme *company.Company, saga string, wanted func(*treatyv1.Saga) bool,
) *treatyv1.Saga {
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
		if wanted(change.GetSaga()) {
			return change.GetSaga()
		}
	}
}

// coolsOff returns whether a family's saga is in its long sleep.
func coolsOff(saga *treatyv1.Saga) bool {
	var progress cardv1.FamilyProgress
	return saga.GetProgress().UnmarshalTo(&progress) == nil &&
		progress.GetStage() == cardv1.FamilyStage_FAMILY_STAGE_COOLING_OFF
}

// wake makes the sagas end, and checks how.
func (all sleepers) wake(ctx context.Context, t *testing.T, acme *company.Company) {
	t.Helper()
	if err := acme.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	sagas := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator))
	for _, s := range all {
		if s.applicant != "" {
			publish(ctx, t, acme, s.applicant)
			continue
		}
		if _, err := sagas.CancelSaga(ctx, &treatyv1.CancelSagaRequest{
			Name: s.Saga, Decision: &treatyv1.Decision{Actor: "proof", Reason: "time is up"},
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range all {
		ended, err := sagas.WaitSaga(ctx, &treatyv1.WaitSagaRequest{Name: s.Saga})
		if err != nil {
			t.Fatal(err)
		}
		if ended.GetState() != s.Told {
			t.Errorf("the saga %s, which waited, ended as %s, want %s", s.RequestID, ended.GetState(), s.Told)
		}
	}
}

// rollBack rolls an orchestrator back behind its newer store. The older one doesn't start, says why, and leaves the
// store as it is.
func rollBack(t *testing.T, both builds) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	m := &mixture{builds: both, ages: allOf(newer)}
	m.open(t, company.Params{})
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
