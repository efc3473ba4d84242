package resource

import "strings"

// SagaPrefix begins the name of every saga.
const SagaPrefix = "sagas/"

const stepsInfix = "/steps/"

// ParseSaga reads a saga's name as a user writes it, "sagas/x" or "x", and returns it as "sagas/x". It returns false
// when text isn't the name of a saga.
func ParseSaga(text string) (name string, ok bool) {
	id := strings.TrimPrefix(text, SagaPrefix)
	if id == "" || strings.ContainsAny(id, "/ \t\n") {
		return "", false
	}
	return SagaPrefix + id, true
}

// ParseStep reads a step's name as a user writes it, "sagas/x/steps/2" or "x/2", and returns the names of the saga and
// of the step. It returns false when text isn't the name of a step.
func ParseStep(text string) (saga, step string, ok bool) {
	id, path, ok := strings.Cut(strings.TrimPrefix(text, SagaPrefix), "/")
	path = strings.TrimPrefix(path, "steps/")
	if !ok || id == "" || path == "" || strings.ContainsAny(id+path, "/ \t\n") {
		return "", "", false
	}
	return SagaPrefix + id, SagaPrefix + id + stepsInfix + path, true
}

// StepPath returns the path in a step's name, e.g. "2.1" for "sagas/x/steps/2.1". It returns any other text unchanged.
func StepPath(name string) string {
	if _, path, ok := strings.Cut(name, stepsInfix); ok {
		return path
	}
	return name
}
