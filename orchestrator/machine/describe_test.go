package machine_test

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/machine"
)

func timestamp(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

func stateName(s treatyv1.SagaState) string {
	return strings.TrimPrefix(s.String(), "SAGA_STATE_")
}

// describe writes a record as one short line.
func describe(record *treatyv1.Record) string {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		return "+ started"
	case *treatyv1.Record_StepScheduled:
		line := fmt.Sprintf("+ scheduled %s %s", r.StepScheduled.GetStep(), r.StepScheduled.GetMethod())
		if request := r.StepScheduled.GetRequest(); len(request) > 0 {
			line += fmt.Sprintf("(%s)", request)
		}
		return line
	case *treatyv1.Record_StepDone:
		return "+ done " + r.StepDone.GetStep() + by(r.StepDone.GetDecision())
	case *treatyv1.Record_StepRefused:
		return "+ refused " + r.StepRefused.GetStep() + by(r.StepRefused.GetDecision())
	case *treatyv1.Record_StepUnknown:
		return "+ unknown " + r.StepUnknown.GetStep()
	case *treatyv1.Record_CompensationDecided:
		cause := strings.TrimPrefix(r.CompensationDecided.GetCause().String(), "COMPENSATION_CAUSE_")
		return fmt.Sprintf("+ decided to compensate: %s: %s%s", cause, r.CompensationDecided.GetFailure().GetMessage(), by(r.CompensationDecided.GetDecision()))
	case *treatyv1.Record_CompensationScheduled:
		line := "+ undo scheduled " + r.CompensationScheduled.GetStep()
		if edited := r.CompensationScheduled.GetEditedRequest(); len(edited) > 0 {
			line += fmt.Sprintf(" with %q", edited)
		}
		return line
	case *treatyv1.Record_CompensationDone:
		return "+ undone " + r.CompensationDone.GetStep() + by(r.CompensationDone.GetDecision())
	case *treatyv1.Record_SagaSuspended:
		return fmt.Sprintf("+ suspended: %s: %s", strings.TrimPrefix(r.SagaSuspended.GetReason().String(), "SUSPENSION_REASON_"), r.SagaSuspended.GetMessage())
	case *treatyv1.Record_SagaResumed:
		return "+ resumed" + by(r.SagaResumed.GetDecision())
	case *treatyv1.Record_SagaSucceeded:
		return fmt.Sprintf("+ succeeded %q", r.SagaSucceeded.GetReply())
	case *treatyv1.Record_SagaCompensated:
		return "+ compensated"
	}
	return "+ ?"
}

func by(decision *treatyv1.Decision) string {
	if decision == nil {
		return ""
	}
	return " by " + decision.GetActor()
}

func describeEffect(effect machine.Effect) string {
	verb := "send"
	switch {
	case effect.Abandon:
		verb = "abandon"
	case effect.Direction == machine.Compensation:
		verb = "undo"
	}
	return fmt.Sprintf("> %s %s", verb, effect.Step.Path())
}

func (w *world) describeSteps() string {
	var lines []string
	for _, step := range w.machine.Saga().Steps {
		lines = append(lines, fmt.Sprintf("%s %s %s", step.Path(), step.Scheduled.GetMethod(), strings.TrimPrefix(step.State.String(), "STEP_STATE_")))
	}
	return strings.Join(lines, "\n")
}
