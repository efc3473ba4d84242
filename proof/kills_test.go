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

// ordeal is a test of the whole company under load, while its processes are killed.
type ordeal struct {
	kills    int           // the number of kills
	inFlight int           // the number of clients, each with one saga in flight
	moment   time.Duration // the longest time between two kills
	heal     time.Duration // the longest time until all sagas have ended; see longestHeal
	goOnly   bool          // run the Go version of the notification service
	hostile  *hostility    // what stands between the orchestrator and its participants; nil for nothing
	disaster *disaster     // what happens to the orchestrator's store; nil for nothing
	seed     uint64        // the seed of all random choices

	firstTime bool // nobody applies for a card a second time
}

// longestHeal is the longest time until all sagas have ended after the last kill. If the identity service is killed
// between completing an inspection and reporting it, the orchestrator asks again only after 30 s.
const longestHeal = 2 * time.Minute

// movers is the number of customers who move. Several sagas change the address of a customer at the same time.
const movers = 24

// pick has the processes that are killed in one round, in random order. The orchestrator is killed twice.
var pick = append(company.Participants(), company.Orchestrator, company.Orchestrator)

// run runs the ordeal. It returns the company, whose participants are stopped, and the report of the audit.
func (o ordeal) run(t *testing.T) (*company.Company, *audit.Report) {
	t.Helper()
	ctx := t.Context()
	acme, err := company.Open(ctx,
		company.Params{Dir: t.TempDir(), GoOnly: o.goOnly, RegisterLatency: 150 * time.Millisecond,
			RegisterDecidesAfter: 300 * time.Millisecond, InspectionTakes: 200 * time.Millisecond,
			Between: o.hostile.between(t),
		})
	t.Cleanup(func() {
		if t.Failed() && acme.Conn(company.Orchestrator) != nil {
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
	var person *operator
	if o.hostile != nil || o.disaster != nil {
		person = &operator{}
	}
	defer person.operate(t, acme)()
	given, customers := createCustomers(ctx, t, acme, "Mover")
	leaving, leavers := createCustomers(ctx, t, acme, "Leaver")
	given = append(given, leaving...)
	began := time.Now()
	clients, told := o.load(t, acme, customers, leavers)

	perProcess := o.kill(t, acme)
	stopped := time.Now()
	told.stop()
	if t.Failed() {
		t.FailNow()
	}
	o.hostile.relent()
	healed := awaitFinal(ctx, t, acme, o.heal)
	facts, disagreements := gather(ctx, t, acme)
	facts.Given, facts.Restores = given, o.disaster.since(0)
	for _, c := range clients {
		for _, s := range c.starts {
			facts.Starts = append(facts.Starts, *s)
		}
	}
	report := audit.Check(facts)
	for _, d := range disagreements {
		t.Log("the services disagree:", d)
		if len(report.Lost) == 0 && len(report.ByHand) == 0 {
			t.Fail()
		}
	}
	t.Logf("an ordeal of %s with %d sagas in flight (seed %d), all ended %s after the last kill\n"+
		"  kills                  %d: %s\n"+
		"  clients' calls         %d, %d of them repeated with the same request id, %d after a restore\n"+
		"  impatient calls        %d\n"+
		"  cancels                %d, %d of them accepted\n%s%s%s",
		stopped.Sub(began).Round(time.Millisecond), o.inFlight, o.seed, healed.Sub(stopped).Round(time.Millisecond),
		o.kills, perProcess, told.calls.Load(), told.retries.Load(), told.again.Load(), told.impatient.Load(),
		told.cancels.Load(), told.cancelled.Load(), o.hostile, person, report)
	return acme, report
}

// createCustomers creates customers without sagas.
func createCustomers(
	ctx context.Context, t *testing.T, acme *company.Company, kind string) (given []audit.Effect, customers []string,
) {
	t.Helper()
	service := customerv1.NewCustomerServiceClient(acme.Conn(company.Customer))
	for i := range movers {
		created, err := service.CreateCustomer(ctx, &customerv1.CreateCustomerRequest{
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

// loading is a running load.
type loading struct {
	tally
	stop func() // stops the load and waits until each client knows how its last saga ended
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
			starts: make(map[string]*audit.Start), tally: &l.tally, disaster: o.disaster,
			firstTime: o.firstTime,
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

// kill kills processes at random and restarts each at once. It returns the number of kills of each process.
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
		case <-time.After(time.Duration(chance.Int64N(int64(o.moment)))): // random times are the point of this test
		case err := <-acme.Died():
			t.Fatal(err)
		}
		o.disaster.strike(t, acme)
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

// lookEvery is the interval at which a test asks for open sagas.
const lookEvery = 20 * time.Millisecond

// stillOpen is the filter for sagas that haven't ended.
const stillOpen = `state = "RUNNING" OR state = "COMPENSATING" OR state = "SUSPENDED"`

// awaitFinal waits until no saga is open, and returns the time.
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
			t.Fatalf("sagas are still open after %s: %v (%v)", within, open.GetSagas(), err)
		}
	}
}

// gather collects the facts. It asks the services for their data, then stops them before it reads their databases, so
// that the data no longer changes.
func gather(ctx context.Context, t *testing.T, acme *company.Company) (facts *audit.Facts, disagreements []string) {
	t.Helper()
	holdings, err := acme.Holdings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range company.Participants() {
		if err := acme.Process(name).Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if facts, err = acme.Facts(ctx); err != nil {
		t.Fatal(err)
	}
	if facts.Events, err = eventsOf(ctx, acme); err != nil {
		t.Fatal(err)
	}
	return facts, holdings.Disagreements()
}

// showOpen logs the sagas that haven't ended.
func showOpen(t *testing.T, acme *company.Company) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callTime)
	defer cancel()
	sagas := treatyv1.NewSagaServiceClient(acme.Conn(company.Orchestrator))
	open, err := sagas.ListSagas(ctx, &treatyv1.ListSagasRequest{PageSize: 100, Filter: stillOpen})
	if err != nil {
		t.Log("listing the open sagas:", err)
		return
	}
	for _, listed := range open.GetSagas() {
		saga, err := sagas.GetSaga(ctx, &treatyv1.GetSagaRequest{Name: listed.GetName()})
		if err != nil {
			t.Log(listed.GetName(), err)
			continue
		}
		t.Logf("%s, a %s, is %s; it waits for %v", saga.GetName(), saga.GetDefinition(), saga.GetState(),
			saga.GetWaits())
		for _, step := range saga.GetSteps() {
			if step.GetEndTime() == nil || saga.GetState() == treatyv1.SagaState_SAGA_STATE_COMPENSATING {
				t.Logf("  %s %s is %s: %v", step.GetName(), step.GetMethod(), step.GetState(), step.GetAttempts())
			}
		}
	}
}

// showLogs logs the ends of the processes' logs.
func showLogs(t *testing.T, acme *company.Company) {
	t.Helper()
	for _, p := range acme.Processes() {
		t.Logf("the end of the log of %s:\n%s", p.Name, p.Tail(30))
	}
}

// judge fails the test for each broken promise, and for an ordeal that tested too little.
func judge(t *testing.T, report *audit.Report) {
	t.Helper()
	if n := len(report.Violations); n > 0 {
		t.Errorf("%d violations; the report above lists them", n)
	}
	c := report.Counts
	if c.Acknowledged == 0 || c.Succeeded == 0 || c.Compensated == 0 {
		t.Errorf("the ordeal tested too little to prove anything: %+v", c)
	}
	// The register decides about every applicant, so a saga whose wait timed out missed an event. A saga whose start
	// was lost with the store misses it if it was published again before.
	if c.Expired > 0 && c.Restored == 0 {
		t.Errorf("%d sagas missed the event that they waited for", c.Expired)
	}
}

// TestKillsBriefly kills a few processes. TestKills, with the build tag proof, kills many.
func TestKillsBriefly(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs six programs")
	}
	brief := ordeal{kills: 8, inFlight: 16, moment: 400 * time.Millisecond, heal: longestHeal, goOnly: true, seed: 1}
	acme, report := brief.run(t)
	judge(t, report)
	if t.Failed() {
		return
	}
	for _, tampering := range tamperings {
		t.Run("the audit sees "+tampering.name, func(t *testing.T) { report = tampering.try(t, acme, report) })
	}
}
