package render

import (
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Obstacle is something outside of a saga that keeps one of its steps from making progress.
type Obstacle struct {
	// Key identifies the obstacle among those of the saga. It stays the same from one attempt to the next.
	Key string

	// Text says what it is, in one sentence without a period.
	Text string
}

// manyAttempts is the number of failed attempts from which they count as an obstacle.
const manyAttempts = 3

// Obstacles returns what keeps a saga's steps from making progress: participants that are down, not configured,
// deployed wrongly, or fail again and again. Journals don't have them: they are those of the current process.
func Obstacles(saga *treatyv1.Saga) []Obstacle {
	var out []Obstacle
	add := func(key, text string) { out = append(out, Obstacle{Key: key, Text: Clean(text)}) }
	for _, step := range saga.GetSteps() {
		method := step.GetMethod()
		switch step.GetState() {
		case treatyv1.StepState_STEP_STATE_SCHEDULED:
		case treatyv1.StepState_STEP_STATE_COMPENSATING:
			method = step.GetCompensationMethod()
		default:
			continue
		}
		attempts := step.GetAttempts()
		why := ""
		if attempts.GetLastFailure() != nil {
			why = ": " + strings.TrimSpace(FailureText(attempts.GetLastFailure()))
		}
		at := step.GetName() + " waits: "
		switch {
		case attempts.GetAccepted():
		case attempts.GetParked():
			add(step.GetName()+" parked", at+"the participant of "+method+" is down"+why)
		case attempts.GetLastOutcome() == "misdeployed":
			add(step.GetName()+" misdeployed", at+"no participant serves "+method+why)
		case attempts.GetCount() >= manyAttempts && why != "":
			add(step.GetName()+" fails", at+"attempts at "+method+" fail"+why)
		}
	}
	for _, wait := range saga.GetWaits() {
		if wait.GetBroadcast() != "" {
			add(wait.GetWait()+" unserved", saga.GetName()+" waits "+moments{}.waiting(wait))
		}
	}
	return out
}
