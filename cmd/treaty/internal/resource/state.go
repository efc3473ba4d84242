package resource

import (
	"slices"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

const statePrefix = "SAGA_STATE_"

// States returns the names of the saga states, in the order in which a saga may pass through them.
func States() []string {
	return []string{"RUNNING", "COMPENSATING", "SUSPENDED", "SUCCEEDED", "COMPENSATED"}
}

// ParseState reads a saga state as a user writes it, in upper or lower case, with or without the prefix SAGA_STATE_. It
// returns false when there is no such state.
func ParseState(text string) (name string, ok bool) {
	name = strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(text)), statePrefix)
	return name, slices.Contains(States(), name)
}

// StateName returns a saga state without its prefix, e.g. "RUNNING".
func StateName(state treatyv1.SagaState) string {
	return strings.TrimPrefix(state.String(), statePrefix)
}

// StepStateName returns a step state without its prefix, e.g. "SCHEDULED".
func StepStateName(state treatyv1.StepState) string {
	return strings.TrimPrefix(state.String(), "STEP_STATE_")
}

// IsFinal reports whether a saga in this state has ended.
func IsFinal(state treatyv1.SagaState) bool {
	return state == treatyv1.SagaState_SAGA_STATE_SUCCEEDED || state == treatyv1.SagaState_SAGA_STATE_COMPENSATED
}
