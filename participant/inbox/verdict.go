package inbox

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/participant"
)

// Verdict is what the inbox did with one call. It is the span attribute "treaty.inbox.verdict" and is counted by the
// metric "treaty.inbox.verdicts".
type Verdict string

// The verdicts. All but Duplicate, Stale, OtherRequest and Purged are also stored in the ledger, in the column
// "verdict".
const (
	// Executed: the handler ran, or an accepted command was completed. Its effect was committed together with the
	// reply.
	Executed Verdict = "executed"

	// Accepted: the handler accepted the command (participant.Pending) and its effect was committed. [Complete] changes
	// the verdict to Executed, [Refuse] to Refused.
	Accepted Verdict = "accepted"

	// Refused: the handler refused the action. Its effect was rolled back and the refusal was committed. Or [Refuse]
	// ended a command that had been accepted.
	Refused Verdict = "refused"

	// Duplicate: the command was handled before, and the call got the stored answer.
	Duplicate Verdict = "duplicate"

	// NullCompensated: a compensation whose action had no effect. The handler didn't run, the reply is empty, and the
	// action is refused from now on.
	NullCompensated Verdict = "null-compensated"

	// RefusedLate: an action that arrived after its compensation, or a duplicate of an accepted action that was
	// compensated before it was completed. The handler didn't run.
	RefusedLate Verdict = "refused-late"

	// Closed: an action that the orchestrator has closed before it arrived, so that it is never executed.
	Closed Verdict = "closed"

	// Stale: a call from an orchestrator process that was replaced. The handler didn't run and nothing was stored.
	Stale Verdict = "stale"

	// OtherRequest: a call under the command id of another request. The handler didn't run and nothing was stored.
	OtherRequest Verdict = "other-request"

	// Purged: a command whose row may have been purged, so that it isn't known what became of it. The handler didn't
	// run and nothing was stored.
	Purged Verdict = "purged"
)

// verdictKey is the attribute with a verdict.
const verdictKey = "treaty.inbox.verdict"

// counted is what the metric distinguishes.
type counted struct {
	direction participant.Direction
	verdict   Verdict
}

// countedVerdicts returns the attributes of all verdicts, since a set of attributes is expensive to make.
func countedVerdicts() map[counted][]metric.AddOption {
	options := make(map[counted][]metric.AddOption)
	for _, v := range []Verdict{
		Executed, Accepted, Refused, Duplicate, NullCompensated, RefusedLate, Closed, Stale, OtherRequest, Purged,
	} {
		for _, direction := range []participant.Direction{participant.Action, participant.Compensation} {
			options[counted{direction, v}] = []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(
				attribute.String(verdictKey, string(v)), attribute.String("treaty.direction", string(direction)),
			))}
		}
	}
	return options
}

// The reasons of the inbox's own errors, in an ErrorInfo with the domain "treaty".
var (
	// ReasonCompensatedBefore comes with FAILED_PRECONDITION: the action's compensation arrived before it, or has
	// undone it.
	ReasonCompensatedBefore = wire.Reason(treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BEFORE)

	// ReasonClosedBefore comes with FAILED_PRECONDITION: the orchestrator has closed the action before it arrived.
	ReasonClosedBefore = wire.Reason(treatyv1.ErrorReason_ERROR_REASON_CLOSED_BEFORE)

	// ReasonStaleEpoch comes with ABORTED: the call was sent under an outdated fencing epoch.
	ReasonStaleEpoch = wire.Reason(treatyv1.ErrorReason_ERROR_REASON_STALE_EPOCH)

	// ReasonOtherRequest comes with INTERNAL: another request is known under the command id.
	ReasonOtherRequest = wire.Reason(treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST)

	// ReasonPurged comes with INTERNAL: it is no longer known what became of the command.
	ReasonPurged = wire.Reason(treatyv1.ErrorReason_ERROR_REASON_PURGED)
)
