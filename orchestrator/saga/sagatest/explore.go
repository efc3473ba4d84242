package sagatest

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/saga"
)

const (
	// maxPairedCommands is how many commands a saga may send without faults, so that all pairs of faults are explored.
	maxPairedCommands = 12

	// DefaultRandomRuns is how many random pairs are explored of a saga with more commands.
	DefaultRandomRuns = 2000

	// DefaultMaxRuns is how many runs an exploration may take.
	DefaultMaxRuns = 200_000

	// maxFailures is how many failing runs are reported.
	maxFailures = 5
)

// Option configures an exploration.
type Option func(*exploration)

// Setup prepares the participants of each run, which starts with a new world, before the saga starts. It may return a
// function, which is called after each run, when all sagas have ended: it compares the participants' own state, and
// returns an error if they disagree. It may return nil.
func Setup(setup func(*World) (agree func(*Saga) error)) Option {
	return func(e *exploration) { e.setup = setup }
}

// Seed sets the seed of the random search. Default 1.
func Seed(seed uint64) Option { return func(e *exploration) { e.seed = seed } }

// RandomRuns sets how many pairs of faults are tried of a saga that sends more than 12 commands. Default
// DefaultRandomRuns.
func RandomRuns(n int) Option { return func(e *exploration) { e.randomRuns = n } }

// MaxRuns sets how many runs the exploration may take. If it would take more, the test fails, and says how many.
// Default DefaultMaxRuns.
func MaxRuns(n int) Option { return func(e *exploration) { e.maxRuns = n } }

// SingleFaults leaves out pairs of faults.
func SingleFaults() Option { return func(e *exploration) { e.singleFaults = true } }

// Golden makes Explore compare the saga's failure matrix with a file, and report an error if they differ. The file is
// Markdown, usually testdata/SAGA.matrix.md: a diagram of the saga, and a table that says for each failure of a
// command, and for each moment of a cancel, what is undone in which order, and how the saga ends. Both are made from
// the runs with at most one fault, so they show what those runs came to.
//
// To write the file, pass -sagatest.update to go test, or -update if the test has a flag of that name.
func Golden(file string) Option { return func(e *exploration) { e.golden = file } }

// exploration is what Explore does.
type exploration struct {
	t       *testing.T
	code    map[string]machine.Code
	catalog *contract.Catalog
	method  string
	request proto.Message

	setup        func(*World) func(*Saga) error
	seed         uint64
	randomRuns   int
	maxRuns      int
	singleFaults bool
	golden       string // the file
	update       bool   // the golden file is written
	untimed      bool   // all runs are

	wrapping wrapping // what tests of this package put between

	report   Report
	paths    map[string]bool
	failures []failure
	failing  int // how many runs
	stopped  bool
}

// failure is a run that failed, or an exploration that can't go on.
type failure struct {
	faults []fault
	text   string
}

// outcome is what a run came to.
type outcome struct {
	faults   []fault
	problems []string
	reached  []reached
	state    treatyv1.SagaState
	commands []*Command
	unused   []fault
	story    *story // of a run for the golden file
}

// Explore runs a saga through all of its failures, and reports an error for each run that leaves something behind.
//
// The first run has no fault. Then there is one run for each single fault at each place that a run reaches: each
// rejection that a command's contract declares, a refusal without details, a request or a reply that is lost once or
// until the orchestrator gives up, a command that is delivered twice or long after the saga's end, an orchestrator that
// is killed just before or just after a turn is durable, a cancel after each turn, and an event that comes just before
// or after each timer, or never. Of a saga that sends at most 12 commands, all pairs of faults follow, in which the
// second one is reached after the first; of others, random ones, and the report says so. In runs with at most one
// fault, a command takes about a millisecond to its participant, so such a run is the same each time. In runs with two,
// it takes no time, and what happens first is left to chance.
//
// After each run, these must hold, or the run fails:
//
//   - All sagas have ended. A saga may be suspended for a pivot whose outcome is unknown, and for nothing else; then it
//     is resumed.
//   - What the journal says was done has an effect at its participant, and what was refused or compensated hasn't. A
//     compensated saga leaves no effect.
//   - No command took effect twice, in either direction, and none that the journal doesn't know.
//   - The journal has the replies that the participants gave.
//   - Steps were undone in the reverse order, no action was sent after its compensation, and nothing took effect after
//     the end.
//   - No wait ended before its time.
//   - The code does the same when it is run again from the journal, after each turn.
//   - The function that [Setup] returned has no objection.
//
// A failing run is printed with a script that [Replay] repeats. Children that are registered, too, run as well, with
// the same faults.
func Explore(
	t *testing.T, register func(saga.Registrar), method string, request proto.Message, options ...Option,
) *Report {
	t.Helper()
	e := newExploration(t, register, method, request, options)
	began := time.Now()
	for _, f := range e.explore() {
		t.Error(f.text)
	}
	e.report.Took = time.Since(began)
	t.Log(e.report.String())
	return &e.report
}

// Replay repeats a run that Explore has printed: the script has one fault on each line. It reports what is wrong with
// the run, and an error for a fault whose place the run doesn't reach. Pass the same options as to Explore.
func Replay(
	t *testing.T, register func(saga.Registrar), method string, request proto.Message, script string,
	options ...Option,
) {
	t.Helper()
	faults, err := parseScript(script)
	if err != nil {
		t.Fatal(err)
	}
	e := newExploration(t, register, method, request, options)
	out := e.run(faults)
	for _, problem := range out.wrong() {
		t.Error(problem)
	}
	for _, command := range out.commands {
		t.Logf("%s (step %s, %d attempts)", command, command.Step, command.Attempts)
	}
	t.Logf("the saga is %s", stateName(out.state))
}

func newExploration(
	t *testing.T, register func(saga.Registrar), method string, request proto.Message, options []Option,
) *exploration {
	t.Helper()
	code, catalog, err := collect(register)
	if err != nil {
		t.Fatal(err)
	}
	e := &exploration{
		t: t, code: code, catalog: catalog, method: method, request: request,
		update: updating(), seed: 1, randomRuns: DefaultRandomRuns, maxRuns: DefaultMaxRuns,
		paths:  make(map[string]bool),
		report: Report{Definition: strings.TrimPrefix(method, "/"), Ends: make(map[string]int)},
	}
	for _, option := range options {
		option(e)
	}
	return e
}

// wrong returns what is wrong with a run that is repeated.
func (o *outcome) wrong() []string {
	var wrong []string
	for _, f := range o.unused {
		wrong = append(wrong, fmt.Sprintf("the run doesn't come to %s", f.place))
	}
	return append(wrong, o.problems...)
}

// fail adds a failure.
func (e *exploration) fail(faults []fault, format string, args ...any) {
	e.failures = append(e.failures, failure{faults, fmt.Sprintf(format, args...)})
}

// explore makes all runs, and returns what failed.
func (e *exploration) explore() []failure {
	if first := e.try(nil); len(first.problems) == 0 { // otherwise, nothing else would tell more
		e.exploreFrom(first)
	}
	return e.failures
}

// exploreFrom makes the runs with faults at the places that the run without faults reached.
func (e *exploration) exploreFrom(first outcome) {
	e.report.Commands = len(first.commands)
	var singles []outcome
	tries := faultsFrom(first, nil)
	for i := 0; i < len(tries); i++ {
		if e.stopped {
			return
		}
		out := e.try([]fault{tries[i]})
		tries = append(tries, out.moreTimers(tries)...)
		e.report.Singles++
		singles = append(singles, out)
		e.report.note(out)
	}
	if e.golden != "" && e.failing == 0 {
		e.compare(e.matrix(first, singles))
	}
	if e.singleFaults {
		return
	}
	var pairs [][]fault
	for _, single := range singles {
		for _, f := range faultsFrom(single, single.faults) {
			pairs = append(pairs, append(slices.Clone(single.faults), f))
		}
	}
	if e.report.Random = e.report.Commands > maxPairedCommands; e.report.Random {
		random := rand.New(rand.NewPCG(e.seed, 0))
		random.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
		pairs = pairs[:min(len(pairs), max(e.randomRuns, 0))]
		e.report.Seed = e.seed
	}
	if total := e.report.Runs + len(pairs); total > e.maxRuns {
		e.fail(nil, "exploring %s would take %d runs, which is more than %d: use SingleFaults, or raise MaxRuns",
			e.report.Definition, total, e.maxRuns)
		return
	}
	for _, pair := range pairs {
		if e.stopped {
			return
		}
		e.try(pair)
		e.report.Pairs++
	}
}

// moreTimers returns the faults of an event that other runs don't know: a run in which it came late may have begun more
// timers.
func (o *outcome) moreTimers(known []fault) (more []fault) {
	for _, r := range o.reached {
		if r.place != o.faults[0].place || r.place.what != atEvent {
			continue
		}
		for _, f := range r.faults {
			if !slices.ContainsFunc(known, func(other fault) bool { return other.String() == f.String() }) {
				more = append(more, f)
			}
		}
	}
	return more
}

// faultsFrom returns the faults at the places that a run reached after those that it had.
func faultsFrom(out outcome, had []fault) []fault {
	begin := 0
	for i, r := range out.reached {
		for _, f := range had {
			if f.place == r.place {
				begin = i + 1
			}
		}
	}
	var faults []fault
	for _, r := range out.reached[begin:] {
		faults = append(faults, r.faults...)
	}
	return faults
}

// try makes a run, and reports what is wrong with it.
func (e *exploration) try(faults []fault) outcome {
	out := e.run(faults)
	e.report.Runs++
	e.paths[pathOf(out)] = true
	e.report.Paths = len(e.paths)
	e.report.Ends[stateName(out.state)]++
	if len(out.problems) == 0 {
		return out
	}
	e.failing++
	if len(faults) == 0 {
		e.fail(nil, "the run of %s without faults fails:\n\t%s\n%s", e.report.Definition,
			strings.Join(out.problems, "\n\t"), sent(out))
	} else {
		e.fail(faults, "a run of %s fails:\n\t%s\n%s\nto repeat it, pass this script to sagatest.Replay:\n\t%s",
			e.report.Definition, strings.Join(out.problems, "\n\t"), sent(out),
			strings.ReplaceAll(formatScript(faults), "\n", "\n\t"))
	}
	if e.failing == maxFailures {
		e.fail(nil, "stopped after %d failing runs", maxFailures)
		e.stopped = true
	}
	return out
}

// sent says which commands a run sent, so that the places of its script have names.
func sent(out outcome) string {
	if len(out.commands) == 0 {
		return "it sent no command"
	}
	var lines []string
	for _, command := range out.commands {
		lines = append(lines, fmt.Sprintf("%s, step %s of %s", command, command.Step, command.saga))
	}
	return "it sent:\n\t" + strings.Join(lines, "\n\t")
}

// pathOf returns what distinguishes a run: the commands with their directions, and the end.
func pathOf(out outcome) string {
	var path []string
	for _, command := range out.commands {
		path = append(path, command.saga+" "+command.Step+" "+command.String())
	}
	slices.Sort(path) // branches run side by side
	return stateName(out.state) + ": " + strings.Join(path, ", ")
}

// run makes one run, in virtual time of its own.
func (e *exploration) run(faults []fault) (out outcome) {
	synctest.Test(e.t, func(t *testing.T) { out = e.runIn(t, faults) })
	return out
}

func (e *exploration) runIn(t testing.TB, faults []fault) (out outcome) {
	out.faults = faults
	w, err := newWorld(worldParams{
		t: t, code: e.code, catalog: e.catalog, logger: slog.New(slog.DiscardHandler), wrapping: e.wrapping,
	})
	if err != nil {
		out.problems = []string{err.Error()}
		return out
	}
	defer w.stop()
	var agree func(*Saga) error
	if e.setup != nil {
		agree = e.setup(w)
	}
	d := newDrive(w, faults)
	defer close(d.over)
	d.timed = len(faults) <= 1 && !e.untimed
	d.keeps = d.timed && e.golden != ""
	d.run(e.method, e.request)
	out.problems, out.reached, out.unused = d.problems, d.places(), d.unused(faults)
	out.commands = w.participants.all()
	if d.saga == nil {
		return out
	}
	view, err := d.saga.view()
	if err != nil {
		out.problems = append(out.problems, err.Error())
		return out
	}
	out.state = view.GetState()
	if d.keeps {
		out.story = d.story(view)
	}
	if len(out.problems) > 0 {
		return out
	}
	out.problems = append(w.check(), w.replay()...)
	if agree != nil {
		if err := agree(d.saga); err != nil {
			out.problems = append(out.problems, fmt.Sprintf("the participants disagree: %v", err))
		}
	}
	return out
}

// Report says what an exploration has covered.
type Report struct {
	// Definition is the saga definition.
	Definition string

	// Commands is how many commands the run without faults sends, those of children included.
	Commands int

	// Runs is how many runs there were: one without faults, Singles with one fault, and Pairs with two.
	Runs, Singles, Pairs int

	// Random says that the pairs are a random choice, and Seed which one.
	Random bool
	Seed   uint64

	// Paths is how many different sets of commands and ends the runs came to.
	Paths int

	// Outcomes, Crashes, Cancels and Events count the single faults: of commands, of orchestrators that were killed,
	// of cancels, and of events.
	Outcomes, Crashes, Cancels, Events int

	// Ends counts the runs by the state in which the saga ended.
	Ends map[string]int

	// Took is how long the exploration took.
	Took time.Duration
}

// note counts a run with a single fault.
func (r *Report) note(out outcome) {
	switch f := out.faults[0]; {
	case f.place.what == atEvent:
		r.Events++
	case f.kind == crashesBefore, f.kind == crashesAfter:
		r.Crashes++
	case f.kind == cancels:
		r.Cancels++
	default:
		r.Outcomes++
	}
}

// String returns the report as one line for each kind of count.
func (r *Report) String() string {
	var pairs string
	switch {
	case r.Pairs == 0:
		pairs = "no pairs of faults"
	case r.Random:
		pairs = fmt.Sprintf("%d pairs of faults, chosen at random with the seed %d", r.Pairs, r.Seed)
	default:
		pairs = fmt.Sprintf("all %d pairs of faults", r.Pairs)
	}
	var ends []string
	for _, state := range []string{"SUCCEEDED", "COMPENSATED", "SUSPENDED"} {
		if n := r.Ends[state]; n > 0 {
			ends = append(ends, fmt.Sprintf("%d %s", n, state))
		}
	}
	return fmt.Sprintf("%s: %d commands; %d runs through %d paths: every single fault (%d outcomes of commands, %d "+
		"crashes, %d cancels, %d events), and %s; ended: %s", r.Definition, r.Commands, r.Runs, r.Paths, r.Outcomes,
		r.Crashes, r.Cancels, r.Events, pairs, strings.Join(ends, ", "))
}
