package resource

import (
	"strings"

	"github.com/treatyhq/treaty/internal/wire"
)

// spaces are characters that a user may type or paste around a name, and that no name has.
const spaces = " \t\n"

// ParseSaga reads a saga's name as a user writes it, "sagas/x" or "x", and returns it as "sagas/x". It returns false
// when text isn't the name of a saga.
func ParseSaga(text string) (name string, ok bool) {
	name = withPrefix(text)
	if _, ok = wire.ParseSagaName(name); !ok || strings.ContainsAny(name, spaces) {
		return "", false
	}
	return name, true
}

// ParseStep reads a step's name as a user writes it, "sagas/x/steps/2" or "x/2", and returns the names of the saga and
// of the step. It returns false when text isn't the name of a step.
func ParseStep(text string) (saga, step string, ok bool) {
	step = withPrefix(text)
	if saga, _, ok = wire.SplitStep(step); !ok {
		id, path, _ := strings.Cut(strings.TrimPrefix(text, wire.SagaPrefix), "/")
		step = wire.StepName(id, path)
		saga, _, ok = wire.SplitStep(step)
	}
	if !ok || strings.ContainsAny(step, spaces) {
		return "", "", false
	}
	return saga, step, true
}

// withPrefix returns a name with the prefix that its user may have left out.
func withPrefix(text string) string {
	if strings.HasPrefix(text, wire.SagaPrefix) {
		return text
	}
	return wire.SagaName(text)
}
