package proof

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	customerv1 "github.com/treatyhq/treaty/gen/acme/customer/v1"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/services/demo/audit"
	"github.com/treatyhq/treaty/services/demo/company"
)

// ordeal says what the company goes through.
type ordeal struct {
	kills    int           // how many processes are killed
	inFlight int           // how many clients there are, each with one saga under way
	moment   time.Duration // the longest time between two kills
	heal     time.Duration // how long everything may take to become final afterwards; see longestHeal
	goOnly   bool          // whether the notification service runs as its twin in Go
	seed     uint64        // what is chosen by chance is chosen alike for the same seed
}

// longestHeal is how long healing may take. It is much longer than 30 s, the time after which the orchestrator asks again about an inspection of
// which it heard nothing: the identity service may be killed when one is complete and before it has told so.
const longestHeal = 2 * time.Minute

// movers is how many customers there are who move; they are moved by several sagas at once.
const movers = 24

// pick are the processes that are killed in one round, in any order: the orchestrator twice.
var pick = append(company.Participants(), company.Orchestrator, company.Orchestrator)

// run runs the ordeal and returns what it left, with the participants stopped, and what an audit finds in it.
func (o ordeal) run(t *testing.T) (*company.Company, *audit.Report) {
	t.Helper()
	ctx := t.Context()
	acme, err := company.Open(ctx, company.Params{Dir: t.TempDir(), GoOnly: o.goOnly, RegisterLatency: 150 * time.Millisecond,
		RegisterDecidesAfter: 300 * time.Millisecond, InspectionTakes: 200 * time.Millisecond,
	})
	t.Cleanup(func() {
		if t.Failed() {
			showOpen(t, acme)
		}
		if err := acme.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			showLogs(t, acme)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	given, customers := found(ctx, t, acme, "Mover")
	leaving, leavers := found(ctx, t, acme, "Leaver")
	given = append(given, leaving...)
	began := time.Now()
	clients, told := o.load(t, acme, customers, leavers)

	perProcess := o.kill(t, acme)
	stopped := time.Now()
	told.stop()
	if t.Failed() {
		t.FailNow()
	}
	healed := awaitFinal(ctx, t, acme, o.heal)
	facts := gather(ctx, t, acme)
	facts.Given = given
	for _, c := range clients {
		for _, s := range c.starts {
			facts.Starts = append(facts.Starts, *s)
		}
	}
	report := audit.Check(facts)
	t.Logf("an ordeal of %s with %d sagas in flight (seed %d), final %s after the last kill\n  kills                  %d: %s\n"+
		"  clients' calls         %d, %d of them again with the same request id; %d impatient, %d cancels (%d accepted)\n%s",
		stopped.Sub(began).Round(time.Millisecond), o.inFlight, o.seed, healed.Sub(stopped).Round(time.Millisecond), o.kills, perProcess,
		told.calls.Load(), told.retries.Load(), told.impatient.Load(), told.cancels.Load(), told.cancelled.Load(), report)
	return acme, report
}

// found makes customers, by calls that are no sagas.
func found(ctx context.Context, t *testing.T, acme *company.Company, kind string) (given []audit.Effect, customers []string) {
	t.Helper()
	for i := range movers {
		created, err := customerv1.NewCustomerServiceClient(acme.Conn(company.Customer)).CreateCustomer(ctx, &customerv1.CreateCustomerRequest{
			DisplayName: fmt.Sprint(kind, " ", i), Email: fmt.Sprintf("%s-%d@example.com", strings.ToLower(kind), i),
			Address: &customerv1.Address{Lines: []string{fmt.Sprint("First Street ", i)}, City: "Delft", Country: "NL"},
		})
		if err != nil {
			t.Fatal(err)
		}
		customers = append(customers, created.GetCustomer())
		given = append(given, audit.Effect{Service: company.Customer, Resource: created.GetCustomer()})
	}
	return given, customers
}

// loading is the load under way.
type loading struct {
	tally
	stop func() // ends the load and waits until each client knows how its last saga ended
}

// load starts the clients.
func (o ordeal) load(t *testing.T, acme *company.Company, customers, leavers []string) ([]*client, *loading) {
	t.Helper()
	l := &loading{}
	stop := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	clients := make([]*client, o.inFlight)
	for i := range clients {
		clients[i] = &client{
			t: t, company: acme, name: fmt.Sprintf("client-%d", i), number: i, customers: customers, leavers: leavers,
			chance: rand.New(rand.NewPCG(o.seed, uint64(i))),
			starts: make(map[string]*audit.Start), tally: &l.tally,
		}
		working.Go(func() { clients[i].work(ctx, stop) })
	}
	l.stop = sync.OnceFunc(func() {
		close(stop)
		patience := time.AfterFunc(o.heal, cancel)
		defer patience.Stop()
		working.Wait()
		cancel()
	})
	t.Cleanup(func() { cancel(); l.stop() })
	return clients, l
}

// kill kills processes at random and starts each again at once. It returns how often each was killed.
func (o ordeal) kill(t *testing.T, acme *company.Company) string {
	t.Helper()
	chance := rand.New(rand.NewPCG(o.seed, 1<<32))
	kills := make(map[string]int)
	var round []string
	for range o.kills {
		if len(round) == 0 {
			round = slices.Clone(pick)
			chance.Shuffle(len(round), func(i, j int) { round[i], round[j] = round[j], round[i] })
		}
		select {
		case <-time.After(time.Duration(chance.Int64N(int64(o.moment)))): // the moment is what is tried out
		case err := <-acme.Died():
			t.Fatal(err)
		}
		p := acme.Process(round[0])
		round = round[1:]
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		kills[p.Name]++
	}
	var told []string
	for _, p := range acme.Processes() {
		told = append(told, fmt.Sprintf("%s %d", p.Name, kills[p.Name]))
	}
	return strings.Join(told, ", ")
}

// lookEvery is how often it is asked whether sagas are still open.
const lookEvery = 20 * time.Millisecond

// stillOpen is the filter for sagas that haven't ended.
const stillOpen = `state = "RUNNING" OR state = "COMPENSATING" OR state = "SUSPENDED"`

// awaitFinal returns when no saga is open any more, and when that was.
func awaitFinal(ctx context.Context, t *testing.T, acme *company.Company, within time.Duration) time.Time {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := acme.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	sagas := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator))
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		open, err := sagas.ListSagas(ctx, &treatyv1.ListSagasRequest{
			PageSize: 10, Filter: stillOpen,
		})
		if err == nil && len(open.GetSagas()) == 0 {
			return time.Now()
		}
		select {
		case <-tick.C:
		case died := <-acme.Died():
			t.Fatal(died)
		case <-ctx.Done():
			t.Fatalf("after %s sagas are still open: %v (%v)", within, open.GetSagas(), err)
		}
	}
}

// gather collects the facts. It first asks the services what they hold, and then stops them, so that nothing happens any more while
// their databases are read.
func gather(ctx context.Context, t *testing.T, acme *company.Company) *audit.Facts {
	t.Helper()
	holdings, err := acme.Holdings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range holdings.Disagreements() {
		t.Error("the services disagree:", d)
	}
	for _, name := range company.Participants() {
		if err := acme.Process(name).Stop(); err != nil {
			t.Fatal(err)
		}
	}
	facts, err := acme.Facts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if facts.Events, err = eventsOf(ctx, acme); err != nil {
		t.Fatal(err)
	}
	return facts
}

// showOpen shows what the sagas that haven't ended are at.
func showOpen(t *testing.T, acme *company.Company) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callTime)
	defer cancel()
	sagas := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator))
	open, err := sagas.ListSagas(ctx, &treatyv1.ListSagasRequest{PageSize: 100, Filter: stillOpen})
	if err != nil {
		t.Log("which sagas are open isn't known:", err)
		return
	}
	for _, listed := range open.GetSagas() {
		saga, err := sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: listed.GetName()})
		if err != nil {
			t.Log(listed.GetName(), err)
			continue
		}
		t.Logf("%s, a %s, is %s; it waits for %v", saga.GetName(), saga.GetDefinition(), saga.GetState(), saga.GetWaits())
		for _, step := range saga.GetSteps() {
			if step.GetEndTime() == nil || saga.GetState() == treatyv1.SagaState_SAGA_STATE_COMPENSATING {
				t.Logf("  %s %s is %s: %v", step.GetName(), step.GetMethod(), step.GetState(), step.GetAttempts())
			}
		}
	}
}

// showLogs shows how the processes' logs end.
func showLogs(t *testing.T, acme *company.Company) {
	t.Helper()
	for _, p := range acme.Processes() {
		t.Logf("the log of %s ends:\n%s", p.Name, p.Tail(30))
	}
}

// judge fails the test for each promise that wasn't kept, and for an ordeal that was none.
func judge(t *testing.T, report *audit.Report) {
	t.Helper()
	if n := len(report.Violations); n > 0 {
		t.Errorf("%d violations; the report above lists them", n)
	}
	c := report.Counts
	if c.Acknowledged == 0 || c.Succeeded == 0 || c.Compensated == 0 {
		t.Errorf("the ordeal didn't try enough to prove anything: %+v", c)
	}
	// The third party decides about everybody, so a saga that waited in vain slept through an event.
	if c.Expired > 0 {
		t.Errorf("%d sagas weren't woken by the event that they awaited", c.Expired)
	}
}

// TestKillsBriefly kills a few processes; the build tag proof has the test that kills many.
func TestKillsBriefly(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs six programs")
	}
	acme, report := ordeal{kills: 8, inFlight: 16, moment: 400 * time.Millisecond, heal: longestHeal, goOnly: true, seed: 1}.run(t)
	judge(t, report)
	if t.Failed() {
		return
	}
	for _, tampering := range tamperings {
		t.Run("the audit sees "+tampering.name, func(t *testing.T) { report = tampering.try(t, acme, report) })
	}
}
