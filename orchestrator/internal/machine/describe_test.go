package machine_test

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

func timestamp(t time.Time) *timestamppb.Timestamp { return timestamppb.New(t) }

func stateName(s treatyv1.SagaState) string {
	return strings.TrimPrefix(s.String(), "SAGA_STATE_")
}

// codeLine matches the position of a panic. Its line changes with every edit, so it is not compared.
var codeLine = regexp.MustCompile(`script_test\.go:\d+\)`)

// describe describes a record in one line.
func describe(record *treatyv1.Record) string {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		return "+ started"
	case *treatyv1.Record_StepScheduled:
		line := fmt.Sprintf("+ scheduled %s %s", r.StepScheduled.GetStep(), r.StepScheduled.GetMethod())
		if request := r.StepScheduled.GetRequest(); len(request) > 0 {
			line += fmt.Sprintf("(%s)", request)
		}
		if participant := r.StepScheduled.GetParticipant(); participant != "" {
			line += " at " + participant
		}
		return line
	case *treatyv1.Record_StepDone:
		line := "+ done " + r.StepDone.GetStep() + by(r.StepDone.GetDecision())
		if digest := r.StepDone.GetRequestDigest(); digest != "" {
			line += " as " + digest
		}
		return line
	case *treatyv1.Record_StepRefused:
		line := "+ refused " + r.StepRefused.GetStep() + by(r.StepRefused.GetDecision())
		if r.StepRefused.GetMayHaveRun() {
			line += ", may have run"
		}
		return line
	case *treatyv1.Record_StepUnknown:
		return "+ unknown " + r.StepUnknown.GetStep()
	case *treatyv1.Record_CompensationDecided:
		cause := strings.TrimPrefix(r.CompensationDecided.GetCause().String(), "COMPENSATION_CAUSE_")
		return fmt.Sprintf("+ decided to compensate: %s: %s%s", cause, r.CompensationDecided.GetFailure().GetMessage(),
			by(r.CompensationDecided.GetDecision()))
	case *treatyv1.Record_CompensationScheduled:
		line := "+ compensation scheduled " + r.CompensationScheduled.GetStep()
		if edited := r.CompensationScheduled.GetEditedRequest(); len(edited) > 0 {
			line += fmt.Sprintf(" with %q", edited)
		}
		return line
	case *treatyv1.Record_CompensationDone:
		return "+ compensation done " + r.CompensationDone.GetStep() + by(r.CompensationDone.GetDecision())
	case *treatyv1.Record_SagaSuspended:
		message := codeLine.ReplaceAllString(r.SagaSuspended.GetMessage(), "script_test.go)")
		return fmt.Sprintf("+ suspended: %s: %s",
			strings.TrimPrefix(r.SagaSuspended.GetReason().String(), "SUSPENSION_REASON_"), message)
	case *treatyv1.Record_SagaResumed:
		return "+ resumed" + by(r.SagaResumed.GetDecision())
	case *treatyv1.Record_SagaSucceeded:
		return fmt.Sprintf("+ succeeded %q", r.SagaSucceeded.GetReply())
	case *treatyv1.Record_SagaCompensated:
		return "+ compensated"
	case *treatyv1.Record_SagaRestored:
		line := "+ restored"
		for _, command := range r.SagaRestored.GetCommands() {
			line += " "
			if command.GetCompensation() {
				line += "undo-"
			}
			line += command.GetStep() + "=" + command.GetMethod()
		}
		if r.SagaRestored.GetAccepted() {
			line += ", accepted"
		}
		return line
	default:
		return describeLanguage(record)
	}
}

// describeLanguage describes the records of the saga language.
func describeLanguage(record *treatyv1.Record) string {
	switch r := record.GetKind().(type) {
	case *treatyv1.Record_WaitScheduled:
		line := "+ waits " + r.WaitScheduled.GetWait()
		for _, key := range r.WaitScheduled.GetEvents() {
			line += fmt.Sprintf(" for %s(%s)", key.GetType(), key.GetSubject())
		}
		if due := r.WaitScheduled.GetDue(); due != nil {
			line += " until " + due.AsTime().Format("02 15:04:05")
		}
		return line
	case *treatyv1.Record_WaitEnded:
		switch how := r.WaitEnded.GetHow().(type) {
		case *treatyv1.WaitEnded_Event:
			return fmt.Sprintf("+ wait %s ended by event %d, its %dth", r.WaitEnded.GetWait(), how.Event.GetPosition(),
				how.Event.GetIndex())
		case *treatyv1.WaitEnded_Stopped_:
			return fmt.Sprintf("+ wait %s stopped", r.WaitEnded.GetWait())
		}
		return fmt.Sprintf("+ wait %s due", r.WaitEnded.GetWait())
	case *treatyv1.Record_ScopeOpened:
		return fmt.Sprintf("+ scope %s until %s", r.ScopeOpened.GetScope(),
			r.ScopeOpened.GetDeadline().AsTime().Format("02 15:04:05"))
	case *treatyv1.Record_ScopeExpired:
		return "+ scope " + r.ScopeExpired.GetScope() + " expired"
	case *treatyv1.Record_ScopeCompensationDecided:
		cause := strings.TrimPrefix(r.ScopeCompensationDecided.GetCause().String(), "COMPENSATION_CAUSE_")
		return fmt.Sprintf("+ decided to compensate scope %s: %s: %s", r.ScopeCompensationDecided.GetScope(), cause,
			r.ScopeCompensationDecided.GetFailure().GetMessage())
	case *treatyv1.Record_BroadcastScheduled:
		return fmt.Sprintf("+ broadcast %s %s to %v", r.BroadcastScheduled.GetBroadcast(),
			r.BroadcastScheduled.GetMethod(), r.BroadcastScheduled.GetParticipants())
	case *treatyv1.Record_VersionChosen:
		return fmt.Sprintf("+ version %d of %s", r.VersionChosen.GetVersion(), r.VersionChosen.GetChange())
	case *treatyv1.Record_ProgressSet:
		return fmt.Sprintf("+ progress %s", r.ProgressSet.GetProgress().GetValue())
	case *treatyv1.Record_SagaRestarted:
		line := fmt.Sprintf("+ restarted with %q, round %d", r.SagaRestarted.GetStarted().GetRequest(),
			r.SagaRestarted.GetRound())
		for _, taken := range r.SagaRestarted.GetEventsTaken() {
			line += fmt.Sprintf(", %s(%s) taken up to %d", taken.GetKey().GetType(), taken.GetKey().GetSubject(),
				taken.GetPosition())
		}
		if deadline := r.SagaRestarted.GetStarted().GetDeadline(); deadline != nil {
			line += ", until " + deadline.AsTime().Format("02 15:04:05")
		}
		return line
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
	if effect.Discover != nil {
		return fmt.Sprintf("> discover %s %s", effect.Discover.Path, effect.Discover.Method)
	}
	verb := "send"
	switch {
	case effect.Abandon:
		verb = "abandon"
	case effect.Direction == machine.Compensation:
		verb = "compensate"
	}
	return fmt.Sprintf("> %s %s", verb, effect.Step.Path())
}

func (s *scenario) describeSteps() string {
	var lines []string
	for _, step := range s.machine.Saga().Steps {
		lines = append(lines,
			fmt.Sprintf("%s %s %s", step.Path(), step.Scheduled.GetMethod(),
				strings.TrimPrefix(step.State.String(), "STEP_STATE_")))
	}
	return strings.Join(lines, "\n")
}
