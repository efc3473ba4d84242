package audit

import (
	"slices"
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// Facts are all facts for an audit.
type Facts struct {
	// Starts are the sagas that were acknowledged to clients.
	Starts []Start

	// Sagas are the sagas in the orchestrator.
	Sagas []Saga

	// Events are all events in the orchestrator's store. If it is nil, the events that sagas took are not checked.
	Events []*treatyv1.PublishedEvent

	// Ledgers are the rows of the participants' inboxes.
	Ledgers []Ledger

	// Effects are the contents of the participants' own tables.
	Effects []Effect

	// Given are the effects that no saga caused: those that existed before.
	Given []Effect

	// Restores are the times at which the orchestrator's store was replaced by a backup.
	Restores []Restore

	// Lost are the names of the sagas that the orchestrator lists as lost: participants know them, and the orchestrator
	// doesn't.
	Lost []string
}

// Restore is one replacement of the orchestrator's store by a backup. What the orchestrator recorded in between is
// lost.
type Restore struct {
	// Backup is the time before the backup began, and Done the time at which the orchestrator was ready again.
	Backup, Done time.Time
}

// Start is a saga that was acknowledged to a client.
type Start struct {
	// Definition and RequestID are from the client's request.
	Definition, RequestID string

	// Saga is the name that the client received, "sagas/{saga}".
	Saga string

	// Told is the final state that the client received. It is unspecified if the client received none.
	Told treatyv1.SagaState

	// Before is another final state that the client received earlier, before the store was replaced by a backup.
	Before treatyv1.SagaState
}

// Saga is one saga in the orchestrator.
type Saga struct {
	// View is what GetSaga returns.
	View *treatyv1.Saga

	// Records is the whole journal, oldest first.
	Records []*treatyv1.SagaRecord
}

// Ledger is one participant's record of its commands.
type Ledger struct {
	// Service is the participant's name, for example "customer".
	Service string

	// Rows are in the order of the participant's transactions.
	Rows []Row
}

// Direction says whether a command is an action or a compensation, as in the metadata of its calls.
type Direction string

// The directions.
const (
	Action       Direction = wire.Action
	Compensation Direction = wire.Compensation
)

// Verdict is an inbox's verdict on a command.
type Verdict string

// The verdicts that a ledger stores.
const (
	Executed        Verdict = "executed"
	Refused         Verdict = "refused"
	NullCompensated Verdict = "null-compensated"
	RefusedLate     Verdict = "refused-late"

	// Closed is the verdict on an action that never arrived and was closed by its orchestrator.
	Closed Verdict = "closed"

	// Accepted is the verdict on a command that was accepted and never completed.
	Accepted Verdict = "accepted"
)

// Row is the verdict on one command in one direction.
type Row struct {
	// Sequence is the order of the row's transaction among the participant's transactions.
	Sequence int64

	// CommandID is "sagas/{saga}/steps/{step}".
	CommandID string

	// Direction says whether the command is an action or a compensation.
	Direction Direction

	// Verdict is the inbox's verdict.
	Verdict Verdict

	// Time is the time of the verdict, to the microsecond, by the same clock as the orchestrator's.
	Time time.Time

	// Duplicates is how many further calls were answered with the stored answer.
	Duplicates int64

	// Effects are the effects that an executed action must have left in the participant's tables; see Effect.Resource.
	Effects []string
}

// took reports whether a command had an effect, or may still have one. An accepted command counts as executed.
func (v Verdict) took() bool { return v == Executed || v == Accepted }

// Effect is a record in a participant's own tables that a command caused.
type Effect struct {
	// Service is the participant's name.
	Service string

	// Resource identifies the effect within the service, for example "customers/42", or "customers/42@3" for the third
	// revision of the customer's address.
	Resource string

	// Undone says that the table keeps the record as undone. Deleted records aren't listed.
	Undone bool
}

// lost reports whether what the orchestrator recorded at a time may have been lost with its store.
func (f *Facts) lost(at time.Time) bool {
	return slices.ContainsFunc(f.Restores, func(r Restore) bool { return at.After(r.Backup) && at.Before(r.Done) })
}
