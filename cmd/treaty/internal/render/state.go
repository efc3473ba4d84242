package render

import (
	"strings"

	"github.com/treatyhq/treaty/cmd/treaty/internal/resource"
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// sagaState returns a state's name in its color. In a terminal it also has a mark, for people who can't tell the colors
// apart.
func (v *View) sagaState(state treatyv1.SagaState) span {
	name := resource.StateName(state)
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
	return v.marked(look.mark, name, look.style)
}

// stepState is sagaState for the state of a step.
func (v *View) stepState(state treatyv1.StepState) span {
	name := resource.StepStateName(state)
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
	return v.marked(look.mark, name, look.style)
}

func (v *View) marked(mark, name string, style style) span {
	if v.options.Terminal && mark != "" {
		return span{mark + " " + name, style}
	}
	return span{name, style}
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
		return "its parent saga compensated it"
	case treatyv1.CompensationCause_COMPENSATION_CAUSE_RESTORED:
		return "it had been compensated before its store was restored from a backup"
	default:
		return ""
	}
}

// reasonName returns the name of the reason why a saga is suspended, as filters have it, or "" without one.
func reasonName(reason treatyv1.SuspensionReason) string {
	if reason == treatyv1.SuspensionReason_SUSPENSION_REASON_UNSPECIFIED {
		return ""
	}
	return strings.TrimPrefix(reason.String(), "SUSPENSION_REASON_")
}

// SuspensionText returns why a saga is suspended, e.g. "the saga's code panicked".
func SuspensionText(reason treatyv1.SuspensionReason) string {
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
		return "a compensation exhausted its retry policy"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE:
		return "the request of a compensation is too large to be sent"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN:
		return "the pivot may or may not have been executed"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_FAILED_AFTER_PIVOT:
		return "the saga's code returned an error after the pivot"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_NO_CODE:
		return "the orchestrator has no code for this definition"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING:
		return "the participant accepted the command and hasn't completed it"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN:
		return "a retriable command may or may not have been executed"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST:
		return "the participant knows another request under the command id"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED:
		return "the participant no longer knows what became of the command"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED:
		return "it was restored from a backup and doesn't fit what its participants know"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNDONE:
		return "it was being compensated before its store was restored, and now it doesn't fail as it did then"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_OVERDUE:
		return "a deadline or a timeout fell into the time that was lost when its store was restored"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_UNLISTED:
		return "it was restored from a backup, and a participant can't say what it knows"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_RESTORED_CHILD:
		return "it was restored from a backup and would fail, but its parent may have received its reply"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_STUCK:
		return "the saga's code blocked"
	case treatyv1.SuspensionReason_SUSPENSION_REASON_KEY_MISSING:
		return "a key is missing, without which its journal or an event can't be read"
	default:
		return "the saga needs an operator"
	}
}

func joinNonEmpty(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "  " + b
}
