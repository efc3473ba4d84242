package audit

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Facts is everything that was gathered.
type Facts struct {
	// Starts are what clients know: the sagas that were acknowledged to them.
	Starts []Start

	// Sagas are what the orchestrator says.
	Sagas []Saga

	// Events are all that the orchestrator's store holds. Nil: they weren't gathered, and what sagas took isn't held
	// against them.
	Events []*treatyv1.PublishedEvent

	// Ledgers are what the participants' inboxes recorded.
	Ledgers []Ledger

	// Effects are what the participants' own tables hold.
	Effects []Effect

	// Given are those of the effects that no saga made: what was there before.
	Given []Effect
}

// Start is a saga that was acknowledged to a client.
type Start struct {
	// Definition and RequestID are what the client started it with.
	Definition, RequestID string

	// Saga is the name that the client was given, "sagas/{saga}".
	Saga string

	// Told is how the client was told that the saga ended; unspecified when it wasn't told.
	Told treatyv1.SagaState
}

// Saga is one saga as the orchestrator shows it.
type Saga struct {
	// View is what GetSaga returns.
	View *treatyv1.Saga

	// Records is the whole journal, oldest first.
	Records []*treatyv1.SagaRecord
}

// Ledger is one participant's record of the commands that came.
type Ledger struct {
	// Service is the participant's name, e.g. "customer".
	Service string

	// Rows are in the order of the participant's transactions.
	Rows []Row
}

// Direction is whether a command does or undoes, as in the metadata of its calls.
type Direction string

// The directions.
const (
	Action       Direction = "action"
	Compensation Direction = "compensation"
)

// Verdict is what an inbox did with a command.
type Verdict string

// The verdicts that a ledger stores.
const (
	Executed        Verdict = "executed"
	Refused         Verdict = "refused"
	NullCompensated Verdict = "null-compensated"
	RefusedLate     Verdict = "refused-late"

	// Accepted is a command whose participant had more to do with it, and that wasn't completed.
	Accepted Verdict = "accepted"
)

// Row is what became of one command in one direction.
type Row struct {
	// Sequence is the place of the row's transaction among the participant's.
	Sequence int64

	// CommandID is "sagas/{saga}/steps/{step}".
	CommandID string

	// Direction is whether it did or undid.
	Direction Direction

	// Verdict is what the inbox did.
	Verdict Verdict

	// Time is when it did so, by the clock that the orchestrator has too, to the microsecond.
	Time time.Time

	// Duplicates is how many further calls got the stored answer.
	Duplicates int64

	// Effects are what an executed action must have left in the participant's tables; see Effect.Resource.
	Effects []string
}

// took says that a command had an effect, or may still have one: a command that was accepted is as good as executed.
func (v Verdict) took() bool { return v == Executed || v == Accepted }

// Effect is something that a participant's own tables hold because of a command.
type Effect struct {
	// Service is the participant's name.
	Service string

	// Resource tells the effect apart from the service's others, e.g. "customers/42", or "customers/42@3" for the third
	// revision of its address.
	Resource string

	// Undone says that the table keeps it as undone. An effect that was deleted isn't listed at all.
	Undone bool
}
