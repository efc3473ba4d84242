package render

import (
	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// maxCompleted is how many steps are shown at most with the commands that complete them.
const maxCompleted = 3

// option is a decision that the orchestrator would accept now.
type option struct {
	// command is the command with the name that it is about, e.g. "resume sagas/x".
	command string

	// flags are the flags after --reason.
	flags string

	// meaning says what the decision does.
	meaning string
}

// decisions returns the commands with which a person can decide about a saga that waits for a person, or makes no
// progress.
func (v *View) decisions(saga *treatyv1.Saga) []line {
	if saga.GetSuspension() == nil && len(Obstacles(saga)) == 0 {
		return nil
	}
	var out []line
	for _, option := range options(saga) {
		command := "treaty sagas " + option.command + " --reason 'WHY'"
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
	if len(out) == 0 {
		return nil
	}
	return append([]line{text(bold, "Possible decisions:")}, out...)
}

// options returns what a person can decide about a saga, as the orchestrator says.
func options(saga *treatyv1.Saga) []option {
	name := ShellQuote(saga.GetName())
	var out []option
	for _, kind := range saga.GetPossibleDecisions() {
		switch kind {
		case treatyv1.DecisionKind_DECISION_KIND_RETRY:
			out = append(out, option{"resume " + name, "--retry", retryMeaning(saga)})
		case treatyv1.DecisionKind_DECISION_KIND_RETRY_EDITED:
			_, compensation := suspendedMethods(saga)
			out = append(out, option{
				"resume " + name, "--retry-edited @request.json",
				"sends " + compensation + " with the request in the file",
			})
		case treatyv1.DecisionKind_DECISION_KIND_MARK_DONE:
			out = append(out, markDone(saga))
		case treatyv1.DecisionKind_DECISION_KIND_MARK_REFUSED:
			out = append(out, option{"resume " + name, "--mark-refused", refusedMeaning(saga)})
		case treatyv1.DecisionKind_DECISION_KIND_TAKE_OVER:
			out = append(out, option{
				"resume " + name, "--take-over",
				"takes what the participant has: its reply or its refusal; a later compensation undoes that",
			})
		case treatyv1.DecisionKind_DECISION_KIND_CANCEL:
			out = append(out, option{"cancel " + name, "", "compensates the saga; this doesn't need its code"})
		case treatyv1.DecisionKind_DECISION_KIND_COMPLETE:
			out = append(out, completions(saga)...)
		}
	}
	return out
}

// completions returns the decisions that complete the steps that make no progress.
func completions(saga *treatyv1.Saga) []option {
	var out []option
	left := maxCompleted
	for _, step := range saga.GetSteps() {
		if left == 0 || step.GetChild() != "" || hindrance(step) == nil {
			continue
		}
		left--
		command, path, force := "complete "+ShellQuote(step.GetName()), wire.StepPath(step.GetName()), " --force"
		if step.GetAttempts().GetAccepted() {
			force = ""
		}
		if step.GetState() == treatyv1.StepState_STEP_STATE_COMPENSATING {
			out = append(out, option{
				command, "--compensation --reply '{}'" + force, "marks step " + path + " as compensated by hand",
			})
			continue
		}
		out = append(out,
			option{
				command, "--reply @reply.json" + force,
				"marks step " + path + " as done, with the reply in the file",
			},
			option{
				command, "--refuse FAILED_PRECONDITION --message 'WHY'" + force,
				"marks step " + path + " as certainly not executed; find out at the participant before",
			})
	}
	return out
}

// retryMeaning says what resuming a saga with --retry does.
func retryMeaning(saga *treatyv1.Saga) string {
	method, compensation := suspendedMethods(saga)
	reason := saga.GetSuspension().GetReason()
	switch {
	case resource.IsActionStuck(saga):
		if resource.SuspendedStep(saga).GetState() == treatyv1.StepState_STEP_STATE_DONE {
			return "lets the saga continue: the participant has completed the step meanwhile"
		}
		if reason == treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING {
			return "sends " + method + " again with the same command id, and waits for the participant again"
		}
		return "sends " + method + " again with the same command id"
	case resource.IsCompensationStuck(saga):
		if reason == treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST ||
			reason == treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED {
			return "sends " + compensation + " again, after you corrected it at the participant"
		}
		return "sends " + compensation + " again, unchanged"
	}
	const asItIs = "lets the saga continue as it is, without the deadlines of the lost time"
	switch reason {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE:
		return asItIs
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE:
		return asItIs + "; publish lost events before"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNLISTED:
		return asItIs + "; find out at the participant before"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_CHILD:
		return "runs the saga's code again; if it fails, the saga is compensated"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_NO_CODE:
		return "runs the saga's code, after you deploy an orchestrator that has it"
	default:
		return "runs the saga's code again, after a fix"
	}
}

// markDone returns the decision to mark the stuck command as done.
func markDone(saga *treatyv1.Saga) option {
	command := "resume " + ShellQuote(saga.GetName())
	if resource.IsCompensationStuck(saga) {
		return option{
			command, "--mark-done", "marks step " + saga.GetSuspension().GetStep() + " as compensated by hand",
		}
	}
	what := "the step"
	if resource.SuspendedStep(saga).GetKind() == treatyv1.CommandKind_COMMAND_KIND_PIVOT {
		what = "the pivot"
	}
	return option{command, "--mark-done @reply.json", "marks " + what + " as done, with the reply in the file"}
}

// refusedMeaning says what resuming a saga with --mark-refused does.
func refusedMeaning(saga *treatyv1.Saga) string {
	meaning := "marks the step as certainly not executed; the saga's code receives the refusal"
	if resource.SuspendedStep(saga).GetKind() == treatyv1.CommandKind_COMMAND_KIND_PIVOT {
		meaning = "marks the pivot as certainly not executed, so the saga can be compensated"
	}
	if saga.GetSuspension().GetReason() == treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING {
		meaning += "; have it refused at the participant first"
	}
	return meaning
}
