package machine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/machine"
)

// FuzzMachine drives sagas whose code, outcomes, crashes, cancellations and decisions are all chosen by chance, each to its end, and
// checks what must hold of every journal. Its seeds alone are four hundred sagas.
func FuzzMachine(f *testing.F) {
	for seed := range uint64(400) {
		f.Add(seed, seed*2654435761)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		runByChance(t, rand.New(rand.NewPCG(a, b)))
	})
}

func runByChance(t *testing.T, chance *rand.Rand) {
	w := newWorld(t)
	w.addCommands("A compensatable\nB compensatable\nC compensatable\nQ query\nP pivot\nR retriable")
	w.code = codeByChance(chance)
	w.machine.Close()
	w.machine = w.newMachine()
	defer func() { w.machine.Close() }()

	var deadline time.Duration
	if chance.IntN(4) == 0 {
		deadline = time.Duration(chance.IntN(20)) * time.Second
	}
	started := &treatyv1.SagaStarted{Definition: "Test/Saga"}
	if deadline > 0 {
		started.Deadline = timestamp(w.now.Add(deadline))
	}
	w.apply(machine.Start{Started: started})
	for range 60 {
		if w.machine.Saga().Final() {
			break
		}
		w.now = w.now.Add(time.Duration(chance.IntN(3)) * time.Second)
		w.stepByChance(chance)
	}
	// Whatever happened, a world without faults brings every saga to its end, unless its code itself is against the rules.
	for range 60 {
		if w.machine.Saga().Final() {
			break
		}
		w.stepWell()
	}
	checkInvariants(t, w)
}

// codeByChance returns code that keeps the rules: compensatable commands and queries, then perhaps a pivot and retriable commands.
func codeByChance(chance *rand.Rand) []string {
	var code []string
	for range chance.IntN(4) {
		code = append(code, []string{"call A", "call B", "try C", "either A B", "call Q", "now B"}[chance.IntN(6)])
	}
	switch chance.IntN(4) {
	case 0:
		return append(code, "fail by chance")
	case 1:
		code = append(code, "call P")
		for range chance.IntN(3) {
			code = append(code, []string{"try R", "try Q"}[chance.IntN(2)])
		}
	}
	if chance.IntN(10) == 0 && !slices.Contains(code, "call P") {
		return append(code, "panic by chance")
	}
	return append(code, "return fine")
}

func (w *world) stepByChance(chance *rand.Rand) {
	decision := &treatyv1.Decision{Actor: "ann"}
	switch chance.IntN(12) {
	case 0:
		w.apply(machine.Cancel{Decision: decision})
	case 1:
		w.machine.Close()
		w.machine = w.replayed()
		w.apply(machine.Wake{})
	case 2:
		w.apply(machine.Wake{})
	case 3:
		w.apply(machine.Resume{Decision: decision, How: machine.ResumeHow(1 + chance.IntN(4)), Payload: []byte("by hand")})
	default:
		outstanding := w.machine.Outstanding()
		if len(outstanding) == 0 {
			w.apply(machine.Resume{Decision: decision, How: machine.Retry})
			return
		}
		effect := outstanding[chance.IntN(len(outstanding))]
		verdict := []machine.Verdict{machine.Done, machine.Done, machine.Done, machine.Refused, machine.Unknown}[chance.IntN(5)]
		if effect.Step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE && verdict == machine.Unknown {
			verdict = machine.Done // a retriable command is never given up
		}
		w.apply(w.ended(effect, verdict))
	}
}

func (w *world) ended(effect machine.Effect, verdict machine.Verdict) machine.Outcome {
	out := machine.Outcome{Step: effect.Step.Path(), Direction: effect.Direction, Verdict: verdict, Attempts: 1}
	if verdict == machine.Done {
		out.Reply = []byte("reply")
	} else {
		out.Failure = &treatyv1.Failure{Code: 9, Message: "by chance"}
	}
	return out
}

func (w *world) stepWell() {
	if outstanding := w.machine.Outstanding(); len(outstanding) > 0 {
		w.apply(w.ended(outstanding[0], machine.Done))
		return
	}
	out, err := w.machine.Apply(w.now, machine.Resume{Decision: &treatyv1.Decision{}, How: machine.Retry})
	if err == nil && out.Turn != nil {
		w.journal = append(w.journal, stored(w.t, out.Turn))
		w.machine.Close()
		w.machine = w.replayed()
		w.apply(machine.Wake{})
	}
	if suspension := w.machine.Saga().Suspension; suspension != nil {
		w.apply(machine.Cancel{Decision: &treatyv1.Decision{}})
	}
}

// checkInvariants reads the journal as an outsider would.
func checkInvariants(t *testing.T, w *world) {
	t.Helper()
	saga := w.machine.Saga()
	fail := func(format string, args ...any) {
		t.Helper()
		for i, turn := range w.journal {
			for _, record := range turn.GetRecords() {
				t.Logf("turn %d: %s", i+1, describe(record))
			}
		}
		t.Fatalf("code %q: %s", w.code, fmt.Sprintf(format, args...))
	}
	if !saga.Final() {
		fail("the saga never ended: %s", stateName(saga.State))
	}
	var decided, final bool
	var undone []int
	for i, turn := range w.journal {
		if i > 0 && turn.GetTime().AsTime().Before(w.journal[i-1].GetTime().AsTime()) {
			fail("time went back")
		}
		for _, record := range turn.GetRecords() {
			if final {
				fail("a record after the final one: %s", describe(record))
			}
			switch r := record.GetKind().(type) {
			case *treatyv1.Record_CompensationDecided:
				if decided {
					fail("decided twice")
				}
				decided = true
			case *treatyv1.Record_StepScheduled:
				if decided {
					fail("an action was scheduled after the decision to compensate")
				}
			case *treatyv1.Record_CompensationDone:
				if decided {
					undone = append(undone, slices.IndexFunc(saga.Steps, func(s *machine.Step) bool { return s.Path() == r.CompensationDone.GetStep() }))
				}
			case *treatyv1.Record_SagaSucceeded:
				if decided {
					fail("succeeded after the decision to compensate")
				}
				final = true
			case *treatyv1.Record_SagaCompensated:
				if !decided {
					fail("compensated without a decision")
				}
				final = true
			}
		}
	}
	if !slices.IsSortedFunc(undone, func(a, b int) int { return b - a }) {
		fail("undone in the order %v", undone)
	}
	checkSteps(saga, fail)
}

func checkSteps(saga *machine.Saga, fail func(string, ...any)) {
	for _, step := range saga.Steps {
		kind, state := step.Scheduled.GetKind(), step.State
		switch {
		case state == treatyv1.StepState_STEP_STATE_SCHEDULED || state == treatyv1.StepState_STEP_STATE_COMPENSATING:
			fail("step %s is left in state %v", step.Path(), state)
		case saga.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED && kind == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE &&
			(state == treatyv1.StepState_STEP_STATE_DONE || state == treatyv1.StepState_STEP_STATE_UNKNOWN):
			fail("the saga is compensated, but step %s is %v", step.Path(), state)
		case saga.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED && state == treatyv1.StepState_STEP_STATE_DONE &&
			(kind == treatyv1.CommandKind_COMMAND_KIND_PIVOT || kind == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE):
			fail("the saga is compensated, but step %s, which can't be undone, is done", step.Path())
		case saga.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED && kind == treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE &&
			state == treatyv1.StepState_STEP_STATE_UNKNOWN:
			fail("the saga succeeded, but step %s is unknown", step.Path())
		}
	}
}
