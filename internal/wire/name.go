package wire

import "strings"

const (
	// SagaPrefix begins the name of every saga.
	SagaPrefix = "sagas/"

	stepsInfix   = "/steps/"
	recordsInfix = "/records/"
)

// MaxCommandID is the length of the longest command id, in bytes. Participants use command ids as database keys.
const MaxCommandID = 512

// SagaName returns the name of the saga with an id: "sagas/{saga}".
func SagaName(id string) string { return SagaPrefix + id }

// ParseSagaName returns the id in a saga's name. It returns false when the text isn't the name of a saga. It checks the
// form of the name, not which characters the id has.
func ParseSagaName(name string) (id string, ok bool) {
	id, ok = strings.CutPrefix(name, SagaPrefix)
	return id, ok && id != "" && !strings.Contains(id, "/")
}

// StepName returns the name of a step: "sagas/{saga}/steps/{step}". It is also the step's command id.
func StepName(sagaID, path string) string { return SagaPrefix + sagaID + stepsInfix + path }

// ParseStepName returns the saga's id and the step's path in the name of a step, which is also its command id. It
// returns false when the text isn't the name of a step.
func ParseStepName(name string) (sagaID, path string, ok bool) {
	rest, ok := strings.CutPrefix(name, SagaPrefix)
	sagaID, path, found := strings.Cut(rest, stepsInfix)
	if !ok || !found || sagaID == "" || path == "" || strings.Contains(sagaID, "/") || strings.Contains(path, "/") {
		return "", "", false
	}
	return sagaID, path, true
}

// JoinStep returns the name of a step from the name of its saga: "{saga}/steps/{step}".
func JoinStep(saga, path string) string { return saga + stepsInfix + path }

// SplitStep is ParseStepName, but returns the saga's name instead of its id.
func SplitStep(name string) (saga, path string, ok bool) {
	id, path, ok := ParseStepName(name)
	if !ok {
		return "", "", false
	}
	return name[:len(SagaPrefix)+len(id)], path, true
}

// StepPath returns the path in the name of a step, or the whole text when it isn't the name of a step.
func StepPath(name string) string {
	if _, path, ok := ParseStepName(name); ok {
		return path
	}
	return name
}

// RecordName returns the name of a journal record: "sagas/{saga}/records/{record}".
func RecordName(sagaID, record string) string { return SagaPrefix + sagaID + recordsInfix + record }
