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

	// Brief says that it may be over in a moment: the participant may just be starting.
	Brief bool
}

// manyAttempts is the number of failed attempts from which they count as an obstacle.
const manyAttempts = 3

// Obstacles returns what keeps a saga's steps from making progress: participants that are down, not configured,
// deployed wrongly, or fail again and again, and child sagas that wait for an operator. Journals don't have them: they
// are those of the current process.
func Obstacles(saga *treatyv1.Saga) []Obstacle {
	var out []Obstacle
	for _, step := range saga.GetSteps() {
		if found := hindrance(step); found != nil {
			out = append(out, *found)
		}
	}
	for _, wait := range saga.GetWaits() {
		if wait.GetBroadcast() != "" {
			out = append(out, Obstacle{
				Key: wait.GetWait() + " unserved", Text: Clean(saga.GetName() + " waits " + moments{}.waiting(wait)),
			})
		}
	}
	return out
}

// hindrance returns what keeps a step from making progress, or nil if nothing does.
func hindrance(step *treatyv1.Step) *Obstacle {
	method := step.GetMethod()
	switch step.GetState() {
	case treatyv1.StepState_STEP_STATE_SCHEDULED:
	case treatyv1.StepState_STEP_STATE_COMPENSATING:
		method = step.GetCompensationMethod()
	default:
		return nil
	}
	attempts := step.GetAttempts()
	why := ""
	if attempts.GetLastFailure() != nil {
		why = ": " + strings.TrimSpace(FailureText(attempts.GetLastFailure()))
	}
	found := func(key, text string) *Obstacle {
		return &Obstacle{Key: step.GetName() + " " + key, Text: Clean(step.GetName() + " waits: " + text)}
	}
	switch {
	case step.GetChildSuspension() != treatyv1.SuspensionReason_SUSPENSION_REASON_UNSPECIFIED:
		return found("child suspended", "its child saga "+step.GetChild()+" is SUSPENDED: "+
			SuspensionText(step.GetChildSuspension()))
	case attempts.GetAccepted():
		return nil
	case attempts.GetParkedReason() != "":
		return found("drifted", "the contract of "+method+" has drifted: "+attempts.GetParkedReason())
	case attempts.GetParked():
		parked := found("parked", "the participant of "+method+" is down"+why)
		parked.Brief = true
		return parked
	case attempts.GetLastOutcome() == "misdeployed":
		return found("misdeployed", "no participant serves "+method+why)
	case attempts.GetCount() >= manyAttempts && why != "":
		return found("fails", "attempts at "+method+" fail"+why)
	default:
		return nil
	}
}
