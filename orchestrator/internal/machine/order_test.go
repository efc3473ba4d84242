package machine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestOrder checks which steps are compensated next.
func TestOrder(t *testing.T) {
	for _, test := range []struct {
		name  string
		steps string // in the order of their records; "!": nothing to compensate; "-": the step ends
		waves string // the steps that are compensated in parallel, one wave after the other
		scope string // the scope to compensate; empty for the saga
	}{
		{name: "none"},
		{name: "one", steps: "1", waves: "1"},
		{name: "newest first", steps: "1 2 3", waves: "3, 2, 1"},
		{name: "positions without steps", steps: "2 5 9", waves: "9, 5, 2"},
		{name: "more than nine", steps: "9 10 11 100", waves: "100, 11, 10, 9"},
		{name: "nothing to compensate", steps: "1 2! 3", waves: "3, 1"},
		{name: "in parallel", steps: "1 2.1.1 2.2.1 2.1.2 3", waves: "3, 2.1.2 2.2.1, 2.1.1, 1"},
		{name: "branches scheduled in another order", steps: "2.2.1 2.10.1 2.1.1 2.2.2",
			waves: "2.1.1 2.10.1 2.2.2, 2.2.1"},
		{name: "branches in branches", steps: "1.1.1.1.1 1.1.1.2.1 1.2.1 1.1.2",
			waves: "1.1.2 1.2.1, 1.1.1.1.1 1.1.1.2.1"},
		{name: "a scope alone", steps: "1 2.1.1 2.1.2 3.1.1", waves: "2.1.2, 2.1.1", scope: "2"},
		{name: "an inner scope", steps: "1.1.1 1.2.1.1.1 1.2.1.1.2 1.2.2", waves: "1.2.1.1.2, 1.2.1.1.1",
			scope: "1.2.1"},
		{name: "a scope without steps", steps: "1 3.1.1", scope: "2"},
		{name: "a scope in a branch without steps", steps: "1 3.1.1", scope: "3.2.1"},
		{name: "a scope whose number is a prefix of another", steps: "1.1.1 11.1.1", waves: "1.1.1", scope: "1"},
		{name: "a later round", steps: "r2.1 r2.2.1.1 r2.2.2.1 r2.3", waves: "r2.3, r2.2.1.1 r2.2.2.1, r2.1"},
		{name: "a scope of a later round", steps: "r12.1 r12.2.1.1 r12.2.2.1 r12.3", waves: "r12.2.1.1 r12.2.2.1",
			scope: "r12.2"},
		{name: "branches one after the other", steps: "1.1.1 -1.1.1 1.2.1 -1.2.1 1.3.1 -1.3.1",
			waves: "1.3.1, 1.2.1, 1.1.1"},
		{name: "two branches at a time", steps: "1.1.1 1.2.1 -1.1.1 1.3.1 -1.2.1 1.4.1 -1.3.1 -1.4.1",
			waves: "1.3.1 1.4.1, 1.1.1 1.2.1"},
		{name: "two branches at a time, with more steps", steps: "1.1.1 1.2.1 -1.1.1 1.1.2 -1.2.1 1.3.1 -1.1.2 -1.3.1",
			waves: "1.2.1 1.3.1, 1.1.2, 1.1.1"},
		{name: "one branch at a time, with two inside",
			steps: "1.1.1.1.1 1.1.1.2.1 -1.1.1.1.1 -1.1.1.2.1 1.2.1.1.1 1.2.1.2.1 -1.2.1.1.1 -1.2.1.2.1",
			waves: "1.2.1.1.1 1.2.1.2.1, 1.1.1.1.1 1.1.1.2.1"},
		{name: "branches with nothing to compensate are skipped", steps: "1.1.1 -1.1.1 1.2.1! -1.2.1 1.3.1! -1.3.1",
			waves: "1.1.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			saga := new(Saga)
			for path := range strings.FieldsSeq(test.steps) {
				saga.records++
				if ended, is := strings.CutPrefix(path, "-"); is {
					saga.Step(ended).ended = saga.records
					continue
				}
				addStep(saga, strings.TrimSuffix(path, "!"), !strings.HasSuffix(path, "!"))
			}
			var waves []string
			for {
				wave := nextWave(saga, test.scope)
				if len(wave) == 0 {
					break
				}
				for _, path := range wave {
					saga.Step(path).State = treatyv1.StepState_STEP_STATE_COMPENSATED
				}
				slices.Sort(wave)
				waves = append(waves, strings.Join(wave, " "))
			}
			if diff := cmp.Diff(test.waves, strings.Join(waves, ", ")); diff != "" {
				t.Errorf("compensated in the wrong order (-want +got):\n%s", diff)
			}
		})
	}
}

func addStep(saga *Saga, path string, compensatable bool) {
	scheduled := &treatyv1.StepScheduled{Step: path}
	if compensatable {
		scheduled.Compensation = &treatyv1.CompensationPlan{Method: "Undo"}
	}
	saga.schedule(saga.CreateTime, scheduled).State = treatyv1.StepState_STEP_STATE_DONE
}

func nextWave(saga *Saga, scope string) []string {
	var steps []*Step
	if order := saga.order(); scope == "" {
		steps = order.next(unfinished(mayHaveRun), nil)
	} else if at := order.find(scope); at != nil {
		steps = at.next(unfinished(mayHaveRun), nil)
	}
	var paths []string
	for _, step := range steps {
		paths = append(paths, step.Path())
	}
	return paths
}

// TestOrderRandom compares the order with one that is computed from each pair of paths, while random steps are added
// and compensated.
func TestOrderRandom(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		root := []string{"", "r3."}[random.IntN(2)]
		var paths []string
		growSequence(random, root, 0, &paths)
		saga := new(Saga)
		for _, path := range paths {
			addStep(saga, path, random.IntN(4) > 0)
			if random.IntN(3) == 0 {
				saga.order() // later steps are added to the sequence
			}
		}
		for range len(paths) + 1 {
			var want []string
			for _, step := range saga.Steps {
				if unfinished(mayHaveRun)(step) && !slices.ContainsFunc(saga.Steps, func(other *Step) bool {
					return unfinished(mayHaveRun)(other) && follows(other.Path(), step.Path())
				}) {
					want = append(want, step.Path())
				}
			}
			got := nextWave(saga, "")
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, steps %v: the wrong steps are next (-want +got):\n%s", seed, paths, diff)
			}
			if len(got) > 0 {
				step := saga.Step(got[random.IntN(len(got))])
				step.State = []treatyv1.StepState{
					treatyv1.StepState_STEP_STATE_COMPENSATED, treatyv1.StepState_STEP_STATE_COMPENSATED,
					treatyv1.StepState_STEP_STATE_COMPENSATING,
				}[random.IntN(3)]
			}
		}
	}
}

// growSequence adds the paths of a random sequence. It interleaves the steps of branches randomly.
func growSequence(random *rand.Rand, prefix string, depth int, paths *[]string) {
	for place := range random.IntN(5) {
		path := prefix + strconv.Itoa(place+1)
		switch {
		case random.IntN(5) == 0: // a wait
		case depth < 3 && random.IntN(2) == 0:
			var lines [][]string
			for branch := range random.IntN(4) {
				var line []string
				growSequence(random, fmt.Sprintf("%s.%d.", path, branch+1), depth+1, &line)
				lines = append(lines, line)
			}
			for {
				lines = slices.DeleteFunc(lines, func(line []string) bool { return len(line) == 0 })
				if len(lines) == 0 {
					break
				}
				i := random.IntN(len(lines))
				*paths = append(*paths, lines[i][0])
				lines[i] = lines[i][1:]
			}
		default:
			*paths = append(*paths, path)
		}
	}
}

// follows reports whether step a came after step b, judging only by their paths. Where the paths differ, the steps are
// at positions of one sequence, or in parallel branches.
func follows(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	if strings.HasPrefix(as[0], "r") {
		as, bs = as[1:], bs[1:]
	}
	for i := range min(len(as), len(bs)) {
		if as[i] == bs[i] {
			continue
		}
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		return i%2 == 0 && x > y
	}
	return false
}
