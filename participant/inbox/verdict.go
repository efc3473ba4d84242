package inbox

// Verdict is what the inbox did with one call. It is reported as the span attribute "treaty.inbox.verdict" and counted by the
// metric "treaty.inbox.verdicts".
type Verdict string

// The verdicts. All but Duplicate and Stale are also stored, in the column "verdict".
const (
	// Executed: the handler ran, or an accepted command was completed, and the effect and the reply were committed together.
	Executed Verdict = "executed"

	// Accepted: the handler ran and accepted the command (participant.Pending); its effect was committed. [Complete] makes it Executed, [Refuse]
	// Refused.
	Accepted Verdict = "accepted"

	// Refused: the handler refused the action; its effect was rolled back and the refusal was committed.
	Refused Verdict = "refused"

	// Duplicate: the command was known; it got the stored answer.
	Duplicate Verdict = "duplicate"

	// NullCompensated: an undo of an action that has had no effect. The handler didn't run, the reply is empty, and the action is
	// refused from now on.
	NullCompensated Verdict = "null-compensated"

	// RefusedLate: an action that came after its undo, or again after an undo that found it accepted only. The handler didn't run.
	RefusedLate Verdict = "refused-late"

	// Stale: a call from an orchestrator process that was replaced. The handler didn't run; nothing was stored.
	Stale Verdict = "stale"
)

// The reasons in the ErrorInfo of the inbox's own refusals, under the domain "treaty".
const (
	// ReasonCompensatedBefore comes with FAILED_PRECONDITION: the action arrived after its undo.
	ReasonCompensatedBefore = "COMPENSATED_BEFORE"

	// ReasonStaleEpoch comes with ABORTED: the call was sent under a fencing epoch that is over.
	ReasonStaleEpoch = "STALE_EPOCH"
)
