package render

import (
	"strings"

	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// option is one way to go on with a suspended saga.
type option struct {
	// command is "resume" or "cancel".
	command string

	// flags follow the reason.
	flags string

	// meaning says what happens then.
	meaning string
}

// options returns the decisions that fit why a saga is suspended.
func options(saga *treatyv1.Saga) []option {
	suspension := saga.GetSuspension()
	method, compensation := suspendedMethods(saga)
	switch suspension.GetReason() {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED:
		return []option{
			{"resume", "--retry", "sends " + compensation + " again as it is"},
			{"resume", "--retry-edited @request.json", "sends " + compensation + " with the request in the file"},
			{"resume", "--mark-done", "takes step " + suspension.GetStep() + " as undone by hand"},
		}
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN:
		return []option{
			{"resume", "--retry", "sends " + method + " again with the same command id"},
			{"resume", "--mark-done @reply.json", "takes it as done, with the reply in the file"},
			{"resume", "--mark-refused", "takes it as certainly not executed, so that the saga can be undone"},
		}
	case treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT:
		return []option{{"resume", "--retry", "runs the saga's code again, once it is mended"}}
	case treatyv1.SuspensionReason_SUSPENSION_REASON_NO_CODE:
		return withCancel(saga, option{"resume", "--retry", "runs the saga's code, once an orchestrator that has it is deployed"})
	default:
		return withCancel(saga, option{"resume", "--retry", "runs the saga's code again, once it is mended"})
	}
}

// withCancel adds that the saga can be undone, which needs no code but isn't possible after the pivot.
func withCancel(saga *treatyv1.Saga, first option) []option {
	for _, step := range saga.GetSteps() {
		if step.GetKind() == treatyv1.CommandKind_COMMAND_KIND_PIVOT && step.GetState() != treatyv1.StepState_STEP_STATE_REFUSED {
			return []option{first}
		}
	}
	return []option{first, {"cancel", "", "undoes what was done; this needs no code"}}
}

// suspendedMethods returns the method and the compensation of the step that a suspension is about.
func suspendedMethods(saga *treatyv1.Saga) (method, compensation string) {
	method, compensation = "the command", "the compensation"
	if step := resource.SuspendedStep(saga); step != nil {
		method = step.GetMethod()
		if step.GetCompensationMethod() != "" {
			compensation = step.GetCompensationMethod()
		}
	}
	return method, compensation
}

// suspension says why a saga waits for an operator, and with which commands it goes on.
func (v *View) suspension(saga *treatyv1.Saga) []line {
	suspension := saga.GetSuspension()
	title := "Suspended: " + SuspensionText(suspension.GetReason())
	if step := suspension.GetStep(); step != "" {
		title += " (step " + resource.StepPath(step) + ")"
	}
	out := []line{text(redBold, "%s", title)}
	if message := strings.TrimSpace(suspension.GetMessage()); message != "" {
		for part := range strings.SplitSeq(message, "\n") {
			out = append(out, line{{"  " + part, plain}})
		}
	}
	for _, fact := range []struct{ name, value string }{
		{"expected", suspension.GetExpected()},
		{"found", suspension.GetFound()},
	} {
		if fact.value != "" {
			out = append(out, line{{"  " + pad(fact.name), dim}, {fact.value, plain}})
		}
	}
	out = append(out, v.failure("failure", suspension.GetFailure())...)
	out = append(out, nil, text(bold, "What fits:"))
	for _, option := range options(saga) {
		command := "treaty sagas " + option.command + " " + ShellQuote(saga.GetName()) + " --reason 'WHY'"
		if option.flags != "" {
			command += " " + option.flags
		}
		out = append(out,
			line{{"  " + command + v.options.ConnectionFlags, cyan}},
			line{{"      " + option.meaning, dim}})
	}
	return out
}
