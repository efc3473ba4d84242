package sagatest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// finished is a saga that has ended, with its journal.
type finished struct {
	*machine.Saga

	turns []*treatyv1.Turn
}

// read reads all sagas of the store.
func (w *World) read() ([]finished, error) {
	ctx := w.t.Context()
	rows, err := w.store.List(ctx, journal.ListParams{Limit: 1000})
	if err != nil {
		return nil, fmt.Errorf("listing the sagas: %w", err)
	}
	var sagas []finished
	for _, row := range rows {
		stored, err := w.store.Load(ctx, row.ID)
		if err != nil {
			return nil, fmt.Errorf("reading the journal of %s: %w", wire.SagaName(row.ID), err)
		}
		one := finished{Saga: &machine.Saga{ID: row.ID}}
		for _, data := range stored.Turns {
			turn := new(treatyv1.Turn)
			if err := proto.Unmarshal(data.Data, turn); err != nil {
				return nil, fmt.Errorf("reading turn %d of %s: %w", data.Number, wire.SagaName(row.ID), err)
			}
			if err := one.Fold(turn); err != nil {
				return nil, fmt.Errorf("reading turn %d of %s: %w", data.Number, wire.SagaName(row.ID), err)
			}
			one.turns = append(one.turns, turn)
		}
		sagas = append(sagas, one)
	}
	return sagas, nil
}

// check returns what is wrong after a run in which all sagas should have ended: between the journals, and what the
// participants hold.
func (w *World) check() []string {
	sagas, err := w.read()
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	problem := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	for _, s := range sagas {
		name := wire.SagaName(s.ID)
		if !s.Final() {
			problem("%s is %s, and not ended", name, stateName(s.State))
			continue
		}
		for _, step := range s.Steps {
			w.checkStep(s, step, problem)
		}
		checkTimers(s, problem)
	}
	w.checkEntries(sagas, problem)
	w.checkOrder(problem)
	for _, what := range w.participants.again {
		problem("%s was sent after its compensation", what)
	}
	slices.Sort(wrong)
	return wrong
}

func stateName(state treatyv1.SagaState) string {
	return strings.TrimPrefix(state.String(), "SAGA_STATE_")
}

// checkStep compares the state of a step in an ended saga with what the participant holds.
func (w *World) checkStep(s finished, step *machine.Step, problem func(string, ...any)) {
	what := fmt.Sprintf("step %s (%s) of %s", step.Path(), step.Scheduled.GetMethod(), wire.SagaName(s.ID))
	if w.code[step.Scheduled.GetMethod()] != nil {
		return // a child, which is checked as a saga
	}
	e := w.participants.entries[wire.SagaName(s.ID)+" "+step.Path()]
	stands := e != nil && e.stands()
	query := step.Scheduled.GetKind() == treatyv1.CommandKind_COMMAND_KIND_QUERY
	switch step.State {
	case treatyv1.StepState_STEP_STATE_DONE:
		if !stands && !query {
			problem("%s is DONE in the journal, but has no effect at the participant", what)
		}
		if stands && e.verdict == engine.WasExecuted && !bytes.Equal(step.Reply, e.reply) {
			problem("%s has another reply in the journal than the participant gave", what)
		}
		if s.State == treatyv1.SagaState_SAGA_STATE_COMPENSATED && !query {
			problem("%s is DONE, although the saga was compensated", what)
		}
	case treatyv1.StepState_STEP_STATE_REFUSED, treatyv1.StepState_STEP_STATE_COMPENSATED:
		if stands {
			problem("%s is %s in the journal, but its effect stands at the participant", what,
				strings.TrimPrefix(step.State.String(), "STEP_STATE_"))
		}
	case treatyv1.StepState_STEP_STATE_UNKNOWN:
		if !query {
			problem("%s is UNKNOWN, although the saga has ended", what)
		}
	default:
		problem("%s is %s, although the saga has ended", what, strings.TrimPrefix(step.State.String(), "STEP_STATE_"))
	}
}

// stands reports whether an action took effect and wasn't undone.
func (e *entry) stands() bool {
	return !e.undone && (e.verdict == engine.WasExecuted || e.verdict == engine.WasAccepted)
}

// checkTimers checks that no wait ended before its time.
func checkTimers(s finished, problem func(string, ...any)) {
	due := make(map[string]*treatyv1.WaitScheduled)
	for _, turn := range s.turns {
		for _, record := range turn.GetRecords() {
			switch r := record.GetKind().(type) {
			case *treatyv1.Record_WaitScheduled:
				due[r.WaitScheduled.GetWait()] = r.WaitScheduled
			case *treatyv1.Record_WaitEnded:
				wait := due[r.WaitEnded.GetWait()]
				if r.WaitEnded.GetEvent() == nil && wait.GetDue() != nil &&
					turn.GetTime().AsTime().Before(wait.GetDue().AsTime()) {
					problem("wait %s of %s ended at %s, before it was due at %s", wait.GetWait(), wire.SagaName(s.ID),
						turn.GetTime().AsTime(), wait.GetDue().AsTime())
				}
			}
		}
	}
}

// checkEntries looks for effects that no journal knows, and for those that happened twice.
func (w *World) checkEntries(sagas []finished, problem func(string, ...any)) {
	byName := make(map[string]finished)
	for _, s := range sagas {
		byName[wire.SagaName(s.ID)] = s
	}
	for _, id := range slices.Sorted(maps.Keys(w.participants.entries)) {
		e := w.participants.entries[id]
		name, path, _ := strings.Cut(id, " ")
		what := fmt.Sprintf("step %s (%s) of %s", path, e.method, name)
		if e.actions > 1 || e.undos > 1 {
			problem("%s took effect %d times, and was undone %d times", what, e.actions, e.undos)
		}
		s, ok := byName[name]
		switch {
		case !ok:
			problem("%s was sent, but no such saga is stored", what)
		case machine.RoundOf(path) < s.Round: // its journal is gone
		case s.Step(path) == nil:
			problem("%s was sent, but the journal has no such step", what)
		}
	}
}

// checkOrder checks that what one branch of a saga did one after the other was undone in the reverse order.
func (w *World) checkOrder(problem func(string, ...any)) {
	for a, first := range w.participants.undone {
		for _, second := range w.participants.undone[a+1:] {
			if first.saga == second.saga && precedes(first.step, second.step) && second.acted < first.undone {
				problem("step %s (%s) of %s was undone before step %s (%s), which came after it", first.step,
					first.method, first.saga, second.step, second.method)
			}
		}
	}
}

// precedes reports whether the step at a path came before that at another path, in every run. The numbers in a path
// are, by turns, positions and branches. Branches run side by side.
func precedes(a, b string) bool {
	if machine.RoundOf(a) != machine.RoundOf(b) {
		return machine.RoundOf(a) < machine.RoundOf(b)
	}
	as, bs := numbersOf(a), numbersOf(b)
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return i%2 == 0 && as[i] < bs[i]
		}
	}
	return false
}

// numbersOf returns the numbers of a path, without its round.
func numbersOf(path string) []int {
	if strings.HasPrefix(path, "r") {
		_, path, _ = strings.Cut(path, ".")
	}
	var numbers []int
	for part := range strings.SplitSeq(path, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			return numbers
		}
		numbers = append(numbers, n)
	}
	return numbers
}
