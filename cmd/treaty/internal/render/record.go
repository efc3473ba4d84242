package render

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// description is a record in words.
type description struct {
	title    string
	style    style
	step     string
	detail   string
	payload  []byte
	failure  *treatyv1.Failure
	decision *treatyv1.Decision
	progress *anypb.Any
}

// describe describes a record. It says so if this version doesn't know the record's kind.
func describe(record *treatyv1.Record) description {
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_SagaStarted:
		r := kind.SagaStarted
		return description{title: "saga started", detail: r.GetDefinition(), payload: r.GetRequest()}
	case *treatyv1.Record_CompensationDecided:
		r := kind.CompensationDecided
		return description{
			title: "compensation decided", style: yellow, detail: causeText(r.GetCause()),
			failure: r.GetFailure(), decision: r.GetDecision(),
		}
	case *treatyv1.Record_SagaSuspended:
		r := kind.SagaSuspended
		return description{
			title: "saga suspended", style: redBold, step: r.GetStep(),
			detail: joinNonEmpty(SuspensionText(r.GetReason()), r.GetMessage()), failure: r.GetFailure(),
		}
	case *treatyv1.Record_SagaResumed:
		return description{title: "saga resumed", style: cyan, decision: kind.SagaResumed.GetDecision()}
	case *treatyv1.Record_SagaRestored:
		return description{title: "saga restored", style: yellow, detail: restoredText(kind.SagaRestored)}
	case *treatyv1.Record_SagaRestarted:
		r := kind.SagaRestarted
		return description{
			title: "saga restarted", style: cyan,
			detail:  fmt.Sprintf("round %d of %s", r.GetRound(), r.GetStarted().GetDefinition()),
			payload: r.GetStarted().GetRequest(), progress: r.GetProgress(),
		}
	case *treatyv1.Record_SagaSucceeded:
		return description{title: "saga succeeded", style: green, payload: kind.SagaSucceeded.GetReply()}
	case *treatyv1.Record_SagaCompensated:
		return description{title: "saga compensated", style: magenta}
	default:
		return describeStep(record)
	}
}

// describeStep describes a record of a step.
func describeStep(record *treatyv1.Record) description {
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_StepScheduled:
		r := kind.StepScheduled
		return description{
			title: "step scheduled", style: cyan, step: r.GetStep(),
			detail:  joinNonEmpty(joinNonEmpty(r.GetMethod(), kindName(r.GetKind())), r.GetParticipant()),
			payload: r.GetRequest(),
		}
	case *treatyv1.Record_StepDone:
		r := kind.StepDone
		detail := attemptsText(r.GetAttempts())
		if r.GetRequestDigest() != "" {
			detail = joinNonEmpty(detail, "as the participant has it, with the digest "+r.GetRequestDigest())
		}
		return description{
			title: "step done", style: green, step: r.GetStep(), detail: detail, payload: r.GetReply(),
			decision: r.GetDecision(),
		}
	case *treatyv1.Record_StepRefused:
		r := kind.StepRefused
		detail := attemptsText(r.GetAttempts())
		if r.GetMayHaveRun() {
			detail = joinNonEmpty(detail, "an earlier attempt may have run")
		}
		return description{
			title: "step refused", style: red, step: r.GetStep(), detail: detail,
			failure: r.GetFailure(), decision: r.GetDecision(),
		}
	case *treatyv1.Record_StepUnknown:
		r := kind.StepUnknown
		return description{
			title: "step unknown", style: yellow, step: r.GetStep(), detail: attemptsText(r.GetAttempts()),
			failure: r.GetFailure(),
		}
	case *treatyv1.Record_CompensationScheduled:
		r := kind.CompensationScheduled
		detail := ""
		if len(r.GetEditedRequest()) > 0 {
			detail = "with an edited request"
		}
		return description{
			title: "compensation scheduled", style: yellow, step: r.GetStep(), detail: detail,
			payload: r.GetEditedRequest(),
		}
	case *treatyv1.Record_CompensationDone:
		r := kind.CompensationDone
		return description{
			title: "compensation done", style: magenta, step: r.GetStep(), detail: attemptsText(r.GetAttempts()),
			payload: r.GetReply(), decision: r.GetDecision(),
		}
	default:
		return describeCode(record)
	}
}

// describeCode describes a record of anything else that the saga's code does.
func describeCode(record *treatyv1.Record) description {
	switch kind := record.GetKind().(type) {
	case *treatyv1.Record_WaitScheduled:
		r := kind.WaitScheduled
		wait := &treatyv1.Wait{DueTime: r.GetDue(), Events: r.GetEvents()}
		return description{title: "wait scheduled", style: cyan, step: r.GetWait(), detail: moments{}.waiting(wait)}
	case *treatyv1.Record_WaitEnded:
		return describeWaitEnded(kind.WaitEnded)
	case *treatyv1.Record_ScopeOpened:
		r := kind.ScopeOpened
		return description{
			title: "scope opened", style: cyan, step: r.GetScope(), detail: "until " + moments{}.exact(r.GetDeadline()),
		}
	case *treatyv1.Record_ScopeExpired:
		return description{title: "scope expired", style: yellow, step: kind.ScopeExpired.GetScope()}
	case *treatyv1.Record_ScopeCompensationDecided:
		r := kind.ScopeCompensationDecided
		return description{
			title: "scope compensation decided", style: yellow, step: r.GetScope(),
			detail: scopeCauseText(r.GetCause()), failure: r.GetFailure(),
		}
	case *treatyv1.Record_BroadcastScheduled:
		r := kind.BroadcastScheduled
		to := "to no participant"
		if len(r.GetParticipants()) > 0 {
			to = "to " + strings.Join(r.GetParticipants(), ", ")
		}
		return description{
			title: "broadcast scheduled", style: cyan, step: r.GetBroadcast(), detail: joinNonEmpty(r.GetMethod(), to),
		}
	case *treatyv1.Record_VersionChosen:
		r := kind.VersionChosen
		return description{title: "version chosen", detail: fmt.Sprintf("%s: %d", r.GetChange(), r.GetVersion())}
	case *treatyv1.Record_ProgressSet:
		return description{title: "progress set", progress: kind.ProgressSet.GetProgress()}
	default:
		return description{title: "unknown record", style: dim, detail: "this program is older than the orchestrator"}
	}
}

func describeWaitEnded(r *treatyv1.WaitEnded) description {
	out := description{title: "wait ended", style: green, step: r.GetWait()}
	switch how := r.GetHow().(type) {
	case *treatyv1.WaitEnded_Due_:
		out.detail = "the time was reached"
	case *treatyv1.WaitEnded_Event:
		event := how.Event
		out.detail = fmt.Sprintf("event %s of %s, position %d", event.GetId(), event.GetSource(), event.GetPosition())
		out.payload = event.GetData()
	case *treatyv1.WaitEnded_Stopped_:
		out.style, out.detail = yellow, "the waiting code was stopped"
	}
	return out
}

// restoredText says what was found when a saga was restored from a backup.
func restoredText(r *treatyv1.SagaRestored) string {
	text := "from the backup of " + moments{}.exact(r.GetBackupTime())
	if r.GetCompensated() {
		text += "; it had been compensated since"
	}
	if commands := r.GetCommands(); len(commands) > 0 {
		var known []string
		for _, command := range commands {
			direction := wire.Action
			if command.GetCompensation() {
				direction = wire.Compensation
			}
			known = append(known, direction+" "+command.GetStep())
		}
		text += "; participants know more: " + strings.Join(known, ", ")
	}
	if r.GetContradiction() != "" {
		text += "; " + r.GetContradiction()
	}
	return text
}

func attemptsText(attempts uint32) string {
	switch attempts {
	case 0:
		return ""
	case 1:
		return "1 attempt"
	default:
		return fmt.Sprintf("%d attempts", attempts)
	}
}
