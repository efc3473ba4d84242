package sagatest

import "testing"

// TestCancelAtPivot cancels a saga while its pivot is sent, many times, since it depends on the order of goroutines. A
// pivot whose answer has just come isn't withdrawn.
func TestCancelAtPivot(t *testing.T) {
	e := newExploration(t, move(moveThenIssue).register, moves, toMove(), nil)
	e.untimed = true
	runs := 3000
	if raceDetector {
		runs = 300
	}
	for n := range runs {
		out := e.run([]fault{{place: place{atTurn, "4"}, kind: cancels}})
		if len(out.problems) > 0 {
			t.Fatalf("run %d: %q\n%s", n, out.problems, sent(out))
		}
	}
}
