package journal

import (
	"time"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Row is the part of a saga that can be listed and searched without reading its journal.
type Row struct {
	// ID is the saga's id, the last part of its name "sagas/{saga}".
	ID string

	// Shard is the number of the shard that the saga belongs to. It is 0 in a store without shards. Append ignores it.
	Shard int

	// Definition is the saga definition, such as "acme.card.v1.CardSagas/IssueCard". It never changes.
	Definition string

	// State is the saga's state.
	State treatyv1.SagaState

	// Suspension is why the saga is SUSPENDED. It is 0 in every other state, and for a saga that was suspended before
	// stores kept the reason.
	Suspension treatyv1.SuspensionReason

	// Revision says what can be decided about the saga. It changes with its state, and each suspension has its own. It
	// is 0 for a saga whose state last changed before stores kept it.
	Revision uint64

	// Labels are for searching. They are written with the first turn and never change.
	Labels map[string]string

	// RequestID is the request id with which the saga was started, or empty. It is written with the first turn, and
	// never changes. It is empty, too, for a saga that was started before stores kept it. The saga's id is derived from
	// it, so no store has to search for it.
	RequestID string

	// Parent says which saga of another orchestrator has started the saga as its step; zero for all other sagas. It is
	// written with the first turn and never changes.
	Parent Parent

	// LocalParent is the id of the saga of this store that may compensate the saga after it has succeeded, or empty. It
	// is written with the first turn and never changes. Such a saga is only purged together with its parent. A saga
	// with a Parent has none.
	LocalParent string

	// CreateTime is when the saga was created. It never changes. UpdateTime is when the row was last written. For a
	// saga in the state RUNNING or COMPENSATING, whose row doesn't change with each turn, List returns instead when the
	// last turn was made. EndTime is when the saga ended, or zero. Stores keep microseconds, in UTC, and cut off the
	// rest.
	CreateTime, UpdateTime, EndTime time.Time

	// Due is when the saga's next timer fires, or zero. Store.Append sets an earlier time when it wakes the saga.
	Due time.Time

	// Waiting is whether the saga only waits for timers and events. Such a saga needs no attention until it is due.
	Waiting bool

	// Awaits are the events that the saga waits for, at most MaxAwaits. They replace those of the row before. A saga
	// that has ended has none. Get and List don't return them.
	Awaits []Await

	// Err is an ErrCorrupt or ErrKey if a part of the row can't be read; then that part is zero. List sets it, so that
	// such a row doesn't hide the others. Get and Children set it for an ErrKey. Append ignores it.
	Err error
}

// Turn is a stored turn.
type Turn struct {
	// Number is its number in the saga's journal, counted from 1.
	Number uint64

	// Data is the serialized treaty.v1.Turn.
	Data []byte
}

// Journal is a saga with its journal.
type Journal struct {
	// Row is the saga's row.
	Row Row

	// Turns are the saga's turns, oldest first. The first has the number 1, or that of the last entry with First.
	Turns []Turn

	// Err is an ErrCorrupt or ErrKey if the turns can't be read; then Turns is nil. Only Open sets it, so that such a
	// saga doesn't hide the others.
	Err error
}

// Due is a timer of a saga.
type Due struct {
	// Saga is the saga's id.
	Saga string

	// Time is when the timer fires.
	Time time.Time
}

// Final returns whether a saga in this state has ended.
func Final(state treatyv1.SagaState) bool {
	return state == treatyv1.SagaState_SAGA_STATE_SUCCEEDED || state == treatyv1.SagaState_SAGA_STATE_COMPENSATED
}
