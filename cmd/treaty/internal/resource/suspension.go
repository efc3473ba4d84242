package resource

import (
	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// SuspendedStep returns the step at which a saga is suspended. It returns nil when the saga isn't suspended at a step.
func SuspendedStep(saga *treatyv1.Saga) *treatyv1.Step {
	path := wire.StepPath(saga.GetSuspension().GetStep())
	if path == "" {
		return nil
	}
	for _, step := range saga.GetSteps() {
		if wire.StepPath(step.GetName()) == path {
			return step
		}
	}
	return nil
}

// IsCompensationStuck reports whether a saga is suspended because of a compensation.
func IsCompensationStuck(saga *treatyv1.Saga) bool {
	switch saga.GetSuspension().GetReason() {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_REFUSED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_EXHAUSTED,
		treatyv1.SuspensionReason_SUSPENSION_REASON_COMPENSATION_TOO_LARGE:
		return true
	case treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED:
		return isCompensating(saga)
	default:
		return false
	}
}

// IsActionStuck reports whether a saga is suspended because the outcome of a step's action is open.
func IsActionStuck(saga *treatyv1.Saga) bool {
	switch saga.GetSuspension().GetReason() {
	case treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_UNKNOWN,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PIVOT_PENDING,
		treatyv1.SuspensionReason_SUSPENSION_REASON_RETRIABLE_UNKNOWN:
		return true
	case treatyv1.SuspensionReason_SUSPENSION_REASON_OTHER_REQUEST,
		treatyv1.SuspensionReason_SUSPENSION_REASON_PURGED:
		return !isCompensating(saga)
	default:
		return false
	}
}

func isCompensating(saga *treatyv1.Saga) bool {
	return SuspendedStep(saga).GetState() == treatyv1.StepState_STEP_STATE_COMPENSATING
}
