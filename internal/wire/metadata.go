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

	// ScopeKey holds the scope of the epoch, "{name}/{shard}": the orchestrator's name, which may be empty, and the
	// shard of its store. Epochs of different scopes have nothing to do with each other.
	ScopeKey = "treaty-scope"

	// StartKey holds the time of the saga's start, in decimal microseconds since 1970 in UTC.
	StartKey = "treaty-start"

	// RequestDigestKey holds the digest of the action's request, see [RequestDigest]. It is the same for all attempts
	// of a step and for both directions.
	RequestDigestKey = "treaty-request-digest"

	// RequestIDKey holds the request id of a call that starts a saga whose request has no request id field.
	RequestIDKey = "treaty-request-id"

	// PendingKey is a trailer. It says that the command was accepted and will be completed later, and that the empty
	// reply means nothing. It holds the seconds in decimal, from 1 to 86400, after which the orchestrator sends the
	// command again unless it receives a completion or a heartbeat.
	PendingKey = "treaty-pending"

	// AnswerKey is a trailer. It says whose word an answer is and which attempts it covers. Its values are
	// AnswerSettled, AnswerAttempt and AnswerDone.
	AnswerKey = "treaty-answer"

	// KeyPrefix begins every key.
	KeyPrefix = "treaty-"
)

// The values of AnswerKey.
const (
	// AnswerSettled marks an error that an inbox has stored. It holds for every other attempt of the command in this
	// direction, earlier and later.
	AnswerSettled = "settled"

	// AnswerAttempt marks any other error that the participant's library lets out. It is the participant's word about
	// this attempt only.
	AnswerAttempt = "attempt"

	// AnswerDone marks an OK of a method whose contract sets complete_within. Without it, an answer whose trailers were
	// dropped couldn't be told from one that accepts the command.
	AnswerDone = "done"
)

// The values of DirectionKey.
const (
	// Action is the direction of a forward command.
	Action = "action"

	// Compensation is the direction of a command that undoes an action.
	Compensation = "compensation"
)
