package inbox

// Verdict is what the inbox did with one call. It is the span attribute "treaty.inbox.verdict" and is counted by the
// metric "treaty.inbox.verdicts".
type Verdict string

// The verdicts. All but Duplicate and Stale are also stored in the ledger, in the column "verdict".
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

	// Stale: a call from an orchestrator process that was replaced. The handler didn't run and nothing was stored.
	Stale Verdict = "stale"
)

// The reasons of the inbox's own refusals, in an ErrorInfo with the domain "treaty".
const (
	// ReasonCompensatedBefore comes with FAILED_PRECONDITION: the action arrived after its compensation.
	ReasonCompensatedBefore = "COMPENSATED_BEFORE"

	// ReasonStaleEpoch comes with ABORTED: the call was sent under an outdated fencing epoch.
	ReasonStaleEpoch = "STALE_EPOCH"
)
