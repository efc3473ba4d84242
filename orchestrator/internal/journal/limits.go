package journal

// The limits of all stores. They are the same, so that a saga can move from one store to another.
const (
	// MaxTurns is the highest turn number.
	MaxTurns = 1<<24 - 1

	// MaxTurnBytes is the maximum size of a turn's data.
	MaxTurnBytes = 32 << 20

	// MaxEventBytes is the maximum size of an event's data.
	MaxEventBytes = MaxTurnBytes

	// MaxOverhead is the maximum of Overhead in an entry or an event.
	MaxOverhead = 128

	// MaxAwaits is the maximum number of events for which a saga waits.
	MaxAwaits = 1000

	// MaxFilterNodes is the maximum number of nodes in a filter.
	MaxFilterNodes = 250
)
