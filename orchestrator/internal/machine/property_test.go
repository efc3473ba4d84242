package machine_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// FuzzMachine runs sagas to their end with random code, outcomes, events, timers, crashes, cancellations and decisions,
// and checks the invariants of their journals. After each input a second machine replays the journal, as in the
// scenarios. The seeds alone are a hundred sagas.
func FuzzMachine(f *testing.F) {
	seeds := uint64(100)
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		f.Add(seed, seed*2654435761)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		runRandom(t, rand.New(rand.NewPCG(a, b)))
	})
}

func runRandom(t *testing.T, random *rand.Rand) {
	s := newScenario(t)
	s.addCommands("A compensatable\nB compensatable\nC compensatable\nOther compensatable\nQ query\nGot query\nLate " +
		"query\nP pivot\nR retriable\n" +
		"E compensatable broadcast\nF retriable broadcast")
	author := &author{random: random}
	s.code = author.saga()
	s.machine.Close()
	s.machine = s.newMachine()
	defer func() { s.machine.Close() }()

	started := &treatyv1.SagaStarted{Definition: "Test/Saga"}
	if random.IntN(5) == 0 {
		started.Deadline = timestamp(s.now.Add(time.Duration(random.IntN(30)) * time.Second))
	}
	s.apply(machine.Start{Started: started})
	life := &life{scenario: s, random: random}
	for range random.IntN(80) {
		if s.machine.Saga().Final() {
			break
		}
		s.now = s.now.Add(time.Duration(random.IntN(3)) * time.Second)
		life.step()
	}
	// Without further faults, every saga reaches its end, unless its code breaks a rule.
	for range 1000 {
		if s.machine.Saga().Final() || !life.stepWell() {
			break
		}
	}
	if !t.Failed() {
		checkJournal(t, s)
	}
	if t.Failed() {
		t.Logf("the code:\n%s\nthe inputs and outputs:\n%s", strings.Join(s.code, "\n"), strings.Join(life.log, "\n"))
	}
}

// author writes random saga code.
type author struct{ random *rand.Rand }

// saga returns code that mostly keeps the rules: compensatable commands, then perhaps a pivot and retriable commands.
func (a *author) saga() []string {
	code := a.block(1+a.random.IntN(4), 0)
	switch a.random.IntN(6) {
	case 0:
		return append(code, "fail randomly")
	case 1:
		code = append(code,
			[]string{"call P", "broadcast F", "try P", "scope-or Q 5s\n  call A\n  call P"}[a.random.IntN(4)])
		for range a.random.IntN(3) {
			code = append(code,
				[]string{"try R", "try Q", "sleep 2s", "or-all Q\n  branch\n    broadcast F\n  branch\n    call R",
					"each 1 R Q"}[a.random.IntN(5)])
		}
	case 2:
		code = append(code, "restart last")
	}
	if a.random.IntN(20) == 0 {
		return append(code, "panic randomly")
	}
	return strings.Split(strings.Join(append(code, "return fine"), "\n"), "\n")
}

func (a *author) block(length, depth int) []string {
	var code []string
	for range length {
		code = append(code, a.statement(depth)...)
	}
	return code
}

func (a *author) statement(depth int) []string {
	one := func(texts ...string) []string { return []string{texts[a.random.IntN(len(texts))]} }
	if depth < 3 && a.random.IntN(5) < 2 {
		switch a.random.IntN(3) {
		case 0:
			code := one("all", "all", "or-all Other")
			for range 1 + a.random.IntN(3) {
				code = append(code, "  branch")
				code = append(code, indented("    ", a.block(a.random.IntN(3), depth+1))...)
			}
			return code
		case 1:
			code := one("scope", "scope 3s", "scope-or Other", "scope-or Other 5s", "scope-must", "scope-must 9s",
				"loop 2")
			return append(code, indented("  ", a.block(1+a.random.IntN(3), depth+1))...)
		default:
			return one("each 2 A B C", "each 1 A Q B", "each 0 A A", "each 3")
		}
	}
	switch a.random.IntN(16) {
	case 0:
		return one("sleep 0s", "sleep 1s", "sleep 7s")
	case 1:
		return one("await E(a)", "loop 3\n  await E(a)", "await E(b) 4s", "first E(a) E(b)", "first E(b) F(a) 6s")
	case 2:
		return one("version x 1 A B", "version y 2 A Q C")
	case 3:
		return one("progress half", "progress most")
	case 4:
		return one("broadcast E")
	case 5:
		return one("add some", "call-added A")
	case 6:
		if a.random.IntN(8) == 0 { // mostly breaks a rule
			return one("call P", "call R", "broadcast F", "call E", "fail here", "await E()")
		}
	}
	return one("call A", "call B", "try C", "either A B", "call Q", "now B")
}

func indented(by string, code []string) []string {
	for i := range code {
		code[i] = by + strings.ReplaceAll(code[i], "\n", "\n"+by)
	}
	return code
}

// life produces random inputs for a saga.
type life struct {
	*scenario
	random   *rand.Rand
	position uint64 // of the latest event
	log      []string
}

func (l *life) happen(in machine.Input) {
	l.log = append(l.log, fmt.Sprintf("%s %T %+v", l.now.Format("04:05"), in, in))
	l.log = append(l.log, l.apply(in))
}

func (l *life) step() {
	decision := &treatyv1.Decision{Actor: "ann"}
	switch l.random.IntN(24) {
	case 0:
		if l.random.IntN(4) == 0 {
			l.happen(machine.Cancel{Decision: decision})
		}
	case 1, 2:
		l.log = append(l.log, "crash")
		l.machine.Close()
		l.machine = l.replayed()
		l.happen(machine.Wake{})
	case 3, 4:
		l.happen(machine.Wake{})
	case 5, 6:
		l.happen(machine.Resume{Decision: decision, Action: machine.ResumeAction(1 + l.random.IntN(4)),
			Payload: []byte("by hand")})
	case 7, 8:
		key := &treatyv1.EventKey{Type: []string{"E", "F"}[l.random.IntN(2)],
			Subject: []string{"a", "b"}[l.random.IntN(2)]}
		if waits := l.machine.Saga().Waits; len(waits) > 0 {
			if awaited := waits[l.random.IntN(len(waits))].Scheduled.GetEvents(); len(awaited) > 0 {
				key = awaited[l.random.IntN(len(awaited))]
			}
		}
		l.event(key)
	case 9:
		if steps := l.machine.Saga().Steps; len(steps) > 0 {
			// A completion may come at any time, also late or twice.
			step, direction := steps[l.random.IntN(len(steps))], machine.Direction(1+l.random.IntN(2))
			l.happen(machine.CommandCompleted(l.ended(machine.Effect{Step: step, Direction: direction}, machine.Done)))
		}
	default:
		pending := l.machine.PendingEffects()
		if len(pending) == 0 {
			l.happen(machine.Resume{Decision: decision, Action: machine.Retry})
			return
		}
		effect := pending[l.random.IntN(len(pending))]
		if effect.Discover != nil {
			l.happen(machine.Discovered{Path: effect.Discover.Path,
				Participants: []string{"x", "y", "z"}[:l.random.IntN(4)]})
			return
		}
		outcome := machine.Done
		switch l.random.IntN(8) {
		case 0:
			outcome = machine.Refused
		case 1:
			outcome = machine.Unknown
		}
		if effect.Step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE &&
			outcome == machine.Unknown {
			outcome = machine.Done // the orchestrator never gives up on a retriable command
		}
		l.happen(l.ended(effect, outcome))
	}
}

// event publishes a new event, or an old one again.
func (l *life) event(key *treatyv1.EventKey) {
	l.position++
	position := l.position
	if l.random.IntN(4) == 0 {
		position = 1 + l.random.Uint64N(l.position)
	}
	l.happen(machine.EventReceived{Key: key, Event: &treatyv1.EventArrived{Position: position}})
}

func (s *scenario) ended(effect machine.Effect, outcome machine.Outcome) machine.CommandEnded {
	out := machine.CommandEnded{Step: effect.Step.Path(), Direction: effect.Direction, Outcome: outcome, Attempts: 1}
	if outcome == machine.Done {
		out.Reply = []byte("reply")
	} else {
		out.Failure = &treatyv1.Failure{Code: int32(codes.FailedPrecondition), Message: "randomly"}
	}
	return out
}

// stepWell applies the next input without a fault. It returns false when the saga can't continue.
func (l *life) stepWell() bool {
	saga := l.machine.Saga()
	if saga.Suspension != nil {
		l.happen(machine.Resume{Decision: &treatyv1.Decision{}, Action: machine.Retry})
		if l.machine.Saga().Suspension == nil {
			return true
		}
		l.happen(machine.Cancel{Decision: &treatyv1.Decision{}})
		return l.machine.Saga().Suspension == nil
	}
	if pending := l.machine.PendingEffects(); len(pending) > 0 {
		if discover := pending[0].Discover; discover != nil {
			l.happen(machine.Discovered{Path: discover.Path, Participants: []string{"x"}})
		} else {
			l.happen(l.ended(pending[0], machine.Done))
		}
		return true
	}
	if due := l.machine.Due(); due.After(l.now) {
		l.now = due
	}
	turns := saga.Turns
	l.happen(machine.Wake{})
	if saga = l.machine.Saga(); saga.Turns == turns && len(saga.Waits) > 0 {
		l.position++
		l.happen(machine.EventReceived{Key: saga.Waits[0].Scheduled.GetEvents()[0],
			Event: &treatyv1.EventArrived{Position: l.position}})
	}
	return l.machine.Saga().Turns > turns
}
