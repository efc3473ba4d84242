package wire

// The keys of the gRPC metadata.
const (
	// SagaKey holds the saga's name. A command carries it, and the orchestrator returns it in the header of a call that
	// starts a saga.
	SagaKey = "treaty-saga"

	// CommandIDKey holds the command id. It is the same for all attempts of a step and for both directions.
	CommandIDKey = "treaty-command-id"

	// DirectionKey holds the direction: "action" or "compensation".
	DirectionKey = "treaty-direction"

	// AttemptKey holds the attempt's number in decimal, from 1.
	AttemptKey = "treaty-attempt"

	// EpochKey holds the fencing epoch of the orchestrator that sent the command, in decimal.
	EpochKey = "treaty-epoch"

	// RequestIDKey holds the request id of a call that starts a saga whose request has no request id field.
	RequestIDKey = "treaty-request-id"

	// PendingKey is a trailer. It says that the command was accepted and will be completed later, and that the empty
	// reply means nothing. It holds the seconds in decimal, from 1 to 86400, after which the orchestrator sends the
	// command again unless it receives a completion or a heartbeat.
	PendingKey = "treaty-pending"
)

// The values of DirectionKey.
const (
	// Action is the direction of a forward command.
	Action = "action"

	// Compensation is the direction of a command that undoes an action.
	Compensation = "compensation"
)
