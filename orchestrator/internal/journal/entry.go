package journal

import "time"

// Entry is a turn to append, with the events that are published with it. An entry without Saga and Turn only publishes
// events.
type Entry struct {
	// Saga is the saga's id.
	Saga string

	// Turn is the number of the turn in the saga's journal, counted from 1.
	Turn uint64

	// Time is when the turn was made, or zero if it isn't known. Stores keep microseconds.
	Time time.Time

	// Data is the serialized treaty.v1.Turn.
	Data []byte

	// Overhead is how many bytes of Data don't count for MaxTurnBytes, since they come from sealing it. It is at most
	// MaxOverhead.
	Overhead int

	// Row is the saga's new row. Turn 1 needs one, and creates the saga. For later turns, nil leaves the row
	// unchanged, and the fields that never change are ignored.
	Row *Row

	// NewRound makes this turn the first of the saga's journal: all earlier turns are deleted. It needs a Row and a
	// turn greater than 1.
	NewRound bool

	// Events are published in this order, after the turn. If the turn isn't written, they aren't either. An event
	// with Err doesn't keep the turn and the other events from being written, unless the entry only publishes events:
	// then all of them are written or none.
	Events []*Event

	// Woken is set by Append when it returns nil: the ids of the sagas that became due because of this entry, each
	// once. A store of one shard names only sagas of its own: the owners of the others hear of them otherwise.
	Woken []string

	// Err is set by Append when it returns nil. It is nil if the entry was written. It is ErrExists if the entry has
	// turn 1 and there is a saga with this id, ErrPurged if there was one whose id is remembered, and ErrConflict if
	// the turn doesn't follow the saga's last turn. It is ErrCorrupt if what is stored of the saga is damaged, so that
	// no turn can be added; a store may then also fail the whole group. For an entry that only publishes events, it is
	// ErrExists if one of them has Err.
	Err error
}
