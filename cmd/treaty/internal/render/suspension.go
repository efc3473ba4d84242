package render

import (
	"slices"
	"strings"

	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// option is a decision on a suspended saga.
type option struct {
	// command is "resume" or "cancel".
	command string

	// flags are the flags after --reason.
	flags string

	// meaning says what the decision does.
	meaning string
}

// options returns the decisions that fit the reason why a saga is suspended.
func options(saga *treatyv1.Saga) []option {
	suspension := saga.GetSuspension()
	_, compensation := suspendedMethods(saga)
	switch suspension.GetReason() {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED:
		return []option{
			{"resume", "--retry", "sends " + compensation + " again, unchanged"},
			{"resume", "--retry-edited @request.json", "sends " + compensation + " with the request in the file"},
			{"resume", "--mark-done", "marks step " + suspension.GetStep() + " as compensated by hand"},
		}
	case treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE:
		return []option{
			{"resume", "--retry-edited @request.json", "sends " + compensation + " with the request in the file"},
			{"resume", "--mark-done", "marks step " + suspension.GetStep() + " as compensated by hand"},
		}
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN:
		return actionOptions(saga)
	case treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED:
		if resource.IsActionStuck(saga) {
			return actionOptions(saga)
		}
		return []option{
			{"resume", "--retry", "sends " + compensation + " again, after you corrected it at the participant"},
			{"resume", "--mark-done", "marks step " + suspension.GetStep() + " as compensated by hand"},
		}
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNLISTED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_CHILD:
		return restoredOptions(saga)
	case treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT:
		return []option{{"resume", "--retry", "runs the saga's code again, after a fix"}}
	case treatyv1.SuspensionReason_SUSPENSION_REASON_NO_CODE:
		return withCancel(saga,
			option{"resume", "--retry", "runs the saga's code, after you deploy an orchestrator that has it"})
	default:
		return withCancel(saga, option{"resume", "--retry", "runs the saga's code again, after a fix"})
	}
}

// actionOptions returns the decisions about an action whose outcome is open.
func actionOptions(saga *treatyv1.Saga) []option {
	method, _ := suspendedMethods(saga)
	what, after := "the step", "; the saga's code receives the refusal"
	if resource.SuspendedStep(saga).GetKind() == treatyv1.CommandKind_COMMAND_KIND_PIVOT {
		what, after = "the pivot", ", so the saga can be compensated"
	}
	retry := option{"resume", "--retry", "sends " + method + " again with the same command id"}
	done := option{"resume", "--mark-done @reply.json", "marks " + what + " as done, with the reply in the file"}
	refused := option{
		"resume", "--mark-refused", "marks " + what + " as certainly not executed" + after,
	}
	switch saga.GetSuspension().GetReason() {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING:
		retry.meaning += ", and waits for the participant again"
		refused.meaning += "; have it refused at the participant first"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST:
		return []option{retry, {
			"resume", "--take-over",
			"takes what the participant has: its reply or its refusal; a later compensation undoes that",
		}, done, refused}
	}
	return []option{retry, done, refused}
}

// restoredOptions returns the decisions about a restored saga, the usual one first.
func restoredOptions(saga *treatyv1.Saga) []option {
	retry := option{"resume", "--retry", "lets the saga continue as it is, without the deadlines of the lost time"}
	switch saga.GetSuspension().GetReason() {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE:
		options := withCancel(saga, retry)
		slices.Reverse(options)
		return options
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE:
		retry.meaning += "; publish lost events before"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNLISTED:
		retry.meaning += "; find out at the participant before"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_CHILD:
		retry.meaning = "runs the saga's code again; if it fails, the saga is compensated"
	}
	return withCancel(saga, retry)
}

// withCancel adds the option to cancel, unless the pivot may have run or there is a retriable command.
func withCancel(saga *treatyv1.Saga, first option) []option {
	if saga.GetParentKind() == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE {
		return []option{first}
	}
	for _, step := range saga.GetSteps() {
		isPivot := step.GetKind() == treatyv1.CommandKind_COMMAND_KIND_PIVOT
		if isPivot && step.GetState() != treatyv1.StepState_STEP_STATE_REFUSED ||
			step.GetKind() == treatyv1.CommandKind_COMMAND_KIND_RETRIABLE {
			return []option{first}
		}
	}
	return []option{first, {"cancel", "", "compensates the saga; this doesn't need its code"}}
}

// suspendedMethods returns the method and the compensation of the step at which a saga is suspended.
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

// suspension returns why a saga is suspended, and the commands that fit.
func (v *View) suspension(saga *treatyv1.Saga) []line {
	suspension := saga.GetSuspension()
	title := "Suspended: " + SuspensionText(suspension.GetReason())
	if step := suspension.GetStep(); step != "" {
		title += " (step " + wire.StepPath(step) + ")"
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
		name := fact.name
		for part := range strings.Lines(fact.value) {
			out = append(out, line{{"  " + pad(name), dim}, {strings.TrimSuffix(part, "\n"), plain}})
			name = ""
		}
	}
	out = append(out, v.failure("failure", suspension.GetFailure())...)
	out = append(out, nil, text(bold, "Possible decisions:"))
	for _, option := range options(saga) {
		command := "treaty sagas " + option.command + " " + ShellQuote(saga.GetName()) + " --reason 'WHY'"
		if option.flags != "" {
			command += " " + option.flags
		}
		if saga.GetEtag() != "" {
			command += " --etag " + ShellQuote(saga.GetEtag())
		}
		out = append(out,
			line{{"  " + command + v.options.ConnectionFlags, cyan}},
			line{{"      " + option.meaning, dim}})
	}
	return out
}
