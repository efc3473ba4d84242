package cli

import (
	"slices"
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// sagaStates are the states of a saga as an operator writes them, in their usual order.
var sagaStates = []string{"RUNNING", "COMPENSATING", "SUSPENDED", "SUCCEEDED", "COMPENSATED"}

// parseState reads a state in upper or lower case, with its prefix or without.
func parseState(text string) (string, error) {
	state := strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(text)), "SAGA_STATE_")
	if !slices.Contains(sagaStates, state) {
		return "", usage("there is no state "+quote(text), "The states are "+strings.Join(sagaStates, ", ")+".")
	}
	return state, nil
}

func isFinal(state treatyv1.SagaState) bool {
	return state == treatyv1.SagaState_SAGA_STATE_SUCCEEDED || state == treatyv1.SagaState_SAGA_STATE_COMPENSATED
}

// sagaState returns a state's name in its colour. In a terminal it has a mark too, for those who don't tell the colours
// apart.
func (p *printer) sagaState(state treatyv1.SagaState) span {
	name := stateName(state)
	look := map[treatyv1.SagaState]struct {
		mark  string
		style style
	}{
		treatyv1.SagaState_SAGA_STATE_RUNNING:      {"▸", cyan},
		treatyv1.SagaState_SAGA_STATE_COMPENSATING: {"◂", yellow},
		treatyv1.SagaState_SAGA_STATE_SUSPENDED:    {"!", redBold},
		treatyv1.SagaState_SAGA_STATE_SUCCEEDED:    {"✓", green},
		treatyv1.SagaState_SAGA_STATE_COMPENSATED:  {"↩", magenta},
	}[state]
	return p.marked(look.mark, name, look.style)
}

// stepState returns a step's state as sagaState does a saga's.
func (p *printer) stepState(state treatyv1.StepState) span {
	name := stepStateName(state)
	look := map[treatyv1.StepState]struct {
		mark  string
		style style
	}{
		treatyv1.StepState_STEP_STATE_SCHEDULED:    {"▸", cyan},
		treatyv1.StepState_STEP_STATE_DONE:         {"✓", green},
		treatyv1.StepState_STEP_STATE_REFUSED:      {"✗", red},
		treatyv1.StepState_STEP_STATE_UNKNOWN:      {"?", yellow},
		treatyv1.StepState_STEP_STATE_COMPENSATING: {"◂", yellow},
		treatyv1.StepState_STEP_STATE_COMPENSATED:  {"↩", magenta},
	}[state]
	return p.marked(look.mark, name, look.style)
}

func (p *printer) marked(mark, name string, style style) span {
	if p.terminal && mark != "" {
		return span{mark + " " + name, style}
	}
	return span{name, style}
}

func stateName(state treatyv1.SagaState) string {
	return strings.TrimPrefix(state.String(), "SAGA_STATE_")
}

func stepStateName(state treatyv1.StepState) string {
	return strings.TrimPrefix(state.String(), "STEP_STATE_")
}

func kindName(kind treatyv1.CommandKind) string {
	if kind == treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(kind.String(), "COMMAND_KIND_"))
}

func causeText(cause treatyv1.CompensationCause) string {
	switch cause {
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_FAILED:
		return "the saga's code returned an error"
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_CANCELLED:
		return "cancelled"
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_DEADLINE:
		return "the saga's deadline passed"
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT:
		return "the saga that this one is a step of undid it"
	default:
		return ""
	}
}

func suspensionText(reason treatyv1.SuspensionReason) string {
	switch reason {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PANIC:
		return "the saga's code panicked"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_MISMATCH:
		return "the saga's code doesn't match its journal"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RULE:
		return "the saga's code broke a rule"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED:
		return "a participant refused a compensation"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED:
		return "a compensation was given up"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN:
		return "the pivot may or may not have been executed"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT:
		return "the saga's code returned an error after the pivot"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_NO_CODE:
		return "the orchestrator has no code for this definition"
	default:
		return "it waits for an operator"
	}
}

// stepPath returns the path in a step's name, e.g. "2.1" of "sagas/x/steps/2.1".
func stepPath(name string) string {
	if _, path, ok := strings.Cut(name, "/steps/"); ok {
		return path
	}
	return name
}
