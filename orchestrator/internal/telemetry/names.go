package telemetry

import "go.opentelemetry.io/otel/attribute"

// serviceName is the service.name of the resource, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES set another.
const serviceName = "treaty-orchestrator"

// scopeName is the instrumentation scope of all spans and metrics.
const scopeName = "github.com/treatyhq/treaty/orchestrator"

// Treaty's own attributes of spans and metrics. The rpc.* attributes follow OpenTelemetry's semantic conventions. No
// attribute ever holds a payload.
const (
	// keySaga is the saga's name, "sagas/{saga}".
	keySaga = attribute.Key("treaty.saga")

	// keyDefinition is the saga definition, such as "acme.card.v1.CardSagas/IssueCard".
	keyDefinition = attribute.Key("treaty.definition")

	// keyState is the final state of a saga: "SUCCEEDED" or "COMPENSATED".
	keyState = attribute.Key("treaty.state")

	// keyStep is the step's path, such as "3".
	keyStep = attribute.Key("treaty.step")

	// keyDirection is "action" or "compensation".
	keyDirection = attribute.Key("treaty.direction")

	// keyAttempt is the attempt's number in this process, from 1.
	keyAttempt = attribute.Key("treaty.attempt")

	// keyParticipant is the name of the participant that a broadcast's step goes to.
	keyParticipant = attribute.Key("treaty.participant")

	// keyChild is the name of the child saga that a step starts or compensates, "sagas/{saga}".
	keyChild = attribute.Key("treaty.child")

	// keyEpoch is the fencing epoch under which the command was sent.
	keyEpoch = attribute.Key("treaty.epoch")

	// keyOutcome is the outcome of an attempt: "done", "refused", "conflict", "misdeployed", "throttled" or "unknown";
	// or "accepted" if the participant completes the command later.
	keyOutcome = attribute.Key("treaty.outcome")

	// keyKind is the command's kind: "compensatable", "pivot", "retriable" or "query".
	keyKind = attribute.Key("treaty.kind")

	// keyRejection is the full name of the rejection in a refusal.
	keyRejection = attribute.Key("treaty.rejection")

	// keyTarget is the participant's gRPC target.
	keyTarget = attribute.Key("treaty.target")

	// keyReason is why a saga was suspended, such as "COMPENSATION_REFUSED".
	keyReason = attribute.Key("treaty.reason")
)

// The names of the spans that cover a saga from its start to its end. The anchor is named after the saga definition,
// the span of a step after its direction and method, and the span of an attempt after its method.
const (
	spanSagaSucceeded   = "saga succeeded"
	spanSagaCompensated = "saga compensated"
)

// The names of the metrics.
const (
	// metricSagasStarted counts sagas by definition.
	metricSagasStarted = "treaty.sagas.started"

	// metricSagasEnded counts sagas by definition and final state.
	metricSagasEnded = "treaty.sagas.ended"

	// metricSagasOpen is the number of sagas that haven't ended.
	metricSagasOpen = "treaty.sagas.open"

	// metricSagasSuspended counts how often sagas were suspended, by reason.
	metricSagasSuspended = "treaty.sagas.suspended"

	// metricCodeLeft is the number of goroutines of saga code that blocks. They were left behind and haven't ended.
	metricCodeLeft = "treaty.code.left"

	// metricSagaDuration is the duration of sagas in seconds, by definition and final state.
	metricSagaDuration = "treaty.saga.duration"

	// metricAttempts counts attempts by method and outcome.
	metricAttempts = "treaty.attempts"

	// metricAttemptDuration is the duration of attempts in seconds, by method and outcome.
	metricAttemptDuration = "treaty.attempt.duration"

	// metricCommitGroupSize is the number of turns in a commit.
	metricCommitGroupSize = "treaty.commit.group.size"

	// metricCommitDuration is the duration of a commit in seconds.
	metricCommitDuration = "treaty.commit.duration"

	// metricBreakerOpen is 1 for a participant whose breaker is open or half open, and 0 otherwise, by target.
	metricBreakerOpen = "treaty.breaker.open"

	// metricParticipantLimit is how many commands may be in flight to a participant, metricParticipantInFlight how many
	// are, and metricParticipantWaiting how many wait, by target.
	metricParticipantLimit    = "treaty.participant.limit"
	metricParticipantInFlight = "treaty.participant.in_flight"
	metricParticipantWaiting  = "treaty.participant.waiting"
	metricParticipantParked   = "treaty.participant.parked_methods"

	// metricStoreSize is the size of the store's file in bytes, and metricStoreLogSize that of its write-ahead log.
	metricStoreSize    = "treaty.store.size"
	metricStoreLogSize = "treaty.store.log.size"

	// metricDriving is 1 while the orchestrator drives sagas, and 0 while it was restored or replaced.
	metricDriving = "treaty.driving"
)
