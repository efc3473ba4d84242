package wire

import (
	"strings"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// ErrorDomain is the domain of every google.rpc.ErrorInfo that an orchestrator returns, and of those that a
// participant's library and inbox return for themselves.
const ErrorDomain = "treaty"

// The keys of the metadata in a google.rpc.ErrorInfo.
const (
	// ErrorSaga holds the saga's name.
	ErrorSaga = "saga"

	// ErrorStep holds the step's name.
	ErrorStep = "step"

	// ErrorDefinition holds the saga definition.
	ErrorDefinition = "definition"

	// ErrorConsumer holds the name of an event consumer.
	ErrorConsumer = "consumer"

	// ErrorPosition holds a position in the stream of events, in decimal: one from which reading can continue for
	// EVENTS_PURGED, and that of the newest event for EVENTS_AHEAD.
	ErrorPosition = "position"

	// ErrorID holds an id with which the cause can be found in the orchestrator's log.
	ErrorID = "error"
)

// The keys of the metadata in a participant's google.rpc.ErrorInfo.
const (
	// ErrorEpoch holds the epoch that has replaced the call's, in decimal, for STALE_EPOCH.
	ErrorEpoch = "epoch"

	// ErrorMethod holds the method that the participant knows under the command id, for OTHER_REQUEST.
	ErrorMethod = "method"

	// ErrorDigest holds the request digest that the participant knows under the command id, for OTHER_REQUEST.
	ErrorDigest = "digest"
)

const reasonPrefix = "ERROR_REASON_"

// Reason returns a reason as it appears in a google.rpc.ErrorInfo: the name of the value without its prefix.
func Reason(reason treatyv1.ErrorReason) string {
	return strings.TrimPrefix(reason.String(), reasonPrefix)
}

// ParseReason returns the reason of a google.rpc.ErrorInfo. It returns UNSPECIFIED when this version doesn't know the
// reason.
func ParseReason(reason string) treatyv1.ErrorReason {
	return treatyv1.ErrorReason(treatyv1.ErrorReason_value[reasonPrefix+reason])
}
