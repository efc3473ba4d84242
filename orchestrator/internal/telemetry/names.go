package telemetry

import "go.opentelemetry.io/otel/attribute"

// ServiceName is the resource's service.name unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES says another.
const ServiceName = "treaty-orchestrator"

// scopeName is the instrumentation scope of all spans and metrics.
const scopeName = "github.com/treatyhq/treaty/orchestrator"

// The attributes of spans and metrics that are Treaty's own. The rpc.* attributes follow OpenTelemetry's semantic
// conventions. None of them ever holds a payload.
const (
	// KeySaga is the saga's name, "sagas/{saga}".
	KeySaga = attribute.Key("treaty.saga")

	// KeyDefinition is the saga definition, e.g. "acme.card.v1.CardSagas/IssueCard".
	KeyDefinition = attribute.Key("treaty.definition")

	// KeyState is the state that a saga ended in: "SUCCEEDED" or "COMPENSATED".
	KeyState = attribute.Key("treaty.state")

	// KeyStep is the step's path, e.g. "3".
	KeyStep = attribute.Key("treaty.step")

	// KeyDirection is "action" or "compensation".
	KeyDirection = attribute.Key("treaty.direction")

	// KeyAttempt is the attempt's number in this process, from 1.
	KeyAttempt = attribute.Key("treaty.attempt")

	// KeyRecovered marks a span that was made again from the journal after a crash.
	KeyRecovered = attribute.Key("treaty.recovered")

	// KeyEpoch is the fencing epoch under which the command was sent.
	KeyEpoch = attribute.Key("treaty.epoch")

	// KeyOutcome is what an attempt came to: "done", "refused", "conflict", "misdeployed", "throttled" or "unknown".
	KeyOutcome = attribute.Key("treaty.outcome")

	// KeyKind is the command's kind: "compensatable", "pivot", "retriable" or "query".
	KeyKind = attribute.Key("treaty.kind")

	// KeyRejection is the full name of the message that a refusal carries.
	KeyRejection = attribute.Key("treaty.rejection")

	// KeyTarget is the participant's gRPC target.
	KeyTarget = attribute.Key("treaty.target")

	// KeyReason is why a saga was suspended, e.g. "COMPENSATION_REFUSED".
	KeyReason = attribute.Key("treaty.reason")
)

// The spans that aren't named after something else: the anchor is named after the saga definition, an attempt after the
// method that it calls.
const (
	// SpanSagaSucceeded covers a saga that succeeded, from its start to its end.
	SpanSagaSucceeded = "saga succeeded"

	// SpanSagaCompensated covers a saga that was compensated, from its start to its end.
	SpanSagaCompensated = "saga compensated"
)

// The metrics.
const (
	// MetricSagasStarted counts sagas by definition.
	MetricSagasStarted = "treaty.sagas.started"

	// MetricSagasEnded counts sagas by definition and final state.
	MetricSagasEnded = "treaty.sagas.ended"

	// MetricSagasOpen is how many sagas are neither succeeded nor compensated.
	MetricSagasOpen = "treaty.sagas.open"

	// MetricSagasSuspended counts how often sagas were suspended, by reason.
	MetricSagasSuspended = "treaty.sagas.suspended"

	// MetricSagaDuration is how long sagas took, in seconds, by definition and final state.
	MetricSagaDuration = "treaty.saga.duration"

	// MetricAttempts counts attempts by method and outcome.
	MetricAttempts = "treaty.attempts"

	// MetricAttemptDuration is how long attempts took, in seconds, by method and outcome.
	MetricAttemptDuration = "treaty.attempt.duration"

	// MetricCommitGroupSize is how many turns were committed at once.
	MetricCommitGroupSize = "treaty.commit.group.size"

	// MetricCommitDuration is how long a commit took, in seconds.
	MetricCommitDuration = "treaty.commit.duration"

	// MetricBreakerOpen is 1 for a participant whose breaker is open or half open, else 0, by target.
	MetricBreakerOpen = "treaty.breaker.open"
)
