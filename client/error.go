package client

import (
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// Saga returns the name of the saga that an error is about, "sagas/{saga}", whatever the error's code. It returns an
// empty string if the error names none.
func Saga(err error) string { return info(err).GetMetadata()[wire.ErrorSaga] }

// SagaOf returns the name of the saga in the header or the trailer of a call, see [grpc.Header] and [grpc.Trailer]. The
// orchestrator sends it in the header once the saga is durable, before it ends; if the call fails at once, gRPC may
// deliver it in the trailer. It returns an empty string if there is none.
//
// [grpc.Header]: https://pkg.go.dev/google.golang.org/grpc#Header
// [grpc.Trailer]: https://pkg.go.dev/google.golang.org/grpc#Trailer
func SagaOf(md metadata.MD) string {
	if values := md.Get(wire.SagaKey); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Reason returns the reason that the orchestrator gives for an error. It returns UNSPECIFIED if the error isn't the
// orchestrator's, or if this version doesn't know the reason.
func Reason(err error) treatyv1.ErrorReason { return wire.ParseReason(info(err).GetReason()) }

// Rejection returns the first detail of type T in an error: the rejection that a participant's contract declares. It
// returns false if the error has none.
//
//	if closed, ok := client.Rejection[*customerv1.CustomerClosed](err); ok { ... }
func Rejection[T proto.Message](err error) (T, bool) {
	for _, detail := range details(err) {
		if found, ok := detail.(T); ok {
			return found, true
		}
	}
	var none T
	return none, false
}

// Compensated reports whether an error says that the saga was compensated. Then it has ended, and its effects are
// undone.
func Compensated(err error) bool {
	switch Reason(err) {
	case treatyv1.ErrorReason_ERROR_REASON_SAGA_COMPENSATED, treatyv1.ErrorReason_ERROR_REASON_SAGA_CANCELLED,
		treatyv1.ErrorReason_ERROR_REASON_SAGA_DEADLINE, treatyv1.ErrorReason_ERROR_REASON_COMPENSATED_BY_PARENT:
		return true
	default:
		return false
	}
}

// Unknown reports whether an error leaves open how the saga of this call ends: the saga may be running, may have ended,
// or may not exist. It returns false for nil, for a saga that was compensated, and if the orchestrator says that this
// call started none. It judges one call: an earlier call with the same request id may have started the saga.
func Unknown(err error) bool {
	if err == nil || Compensated(err) {
		return false
	}
	switch Reason(err) {
	case treatyv1.ErrorReason_ERROR_REASON_INVALID_REQUEST, treatyv1.ErrorReason_ERROR_REASON_DEFINITION_NOT_FOUND,
		treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST, treatyv1.ErrorReason_ERROR_REASON_STORE_FULL,
		treatyv1.ErrorReason_ERROR_REASON_STORE_READ_ONLY, treatyv1.ErrorReason_ERROR_REASON_OVERLOADED,
		treatyv1.ErrorReason_ERROR_REASON_NOT_A_STEP:
		return false
	default:
		return true
	}
}

// RetryAfter reports whether a call that starts a saga may succeed if it is repeated with the same request and request
// id, and after what time at the earliest. The time is 0 if the error doesn't say. A call without a request id must not
// be repeated if its outcome is [Unknown]: that might start a second saga.
//
// The error of a saga that was compensated isn't repeatable, whatever its code. An error without a reason comes from
// gRPC or from a proxy. It is repeatable if its code is UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED or INTERNAL, as those
// of broken connections are.
func RetryAfter(err error) (after time.Duration, ok bool) {
	if !repeatable(err) {
		return 0, false
	}
	for _, detail := range details(err) {
		if retry, is := detail.(*errdetails.RetryInfo); is {
			return max(0, retry.GetRetryDelay().AsDuration()), true
		}
	}
	return 0, true
}

func repeatable(err error) bool {
	s, ok := status.FromError(err)
	if err == nil || !ok || Compensated(err) {
		return false
	}
	if info(err) == nil {
		switch s.Code() {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Internal:
			return true
		default:
			return false
		}
	}
	switch Reason(err) {
	case treatyv1.ErrorReason_ERROR_REASON_OVERLOADED, treatyv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED,
		treatyv1.ErrorReason_ERROR_REASON_CANCELLED:
		return true
	default:
		// IN_DOUBT, STOPPING and others, and those of a later version.
		return s.Code() == codes.Unavailable
	}
}

// info returns the orchestrator's ErrorInfo. It is the first of its domain: those of participants follow.
func info(err error) *errdetails.ErrorInfo {
	for _, detail := range details(err) {
		if found, ok := detail.(*errdetails.ErrorInfo); ok && found.GetDomain() == wire.ErrorDomain {
			return found
		}
	}
	return nil
}

func details(err error) []any {
	s, ok := status.FromError(err)
	if !ok {
		return nil
	}
	return s.Details()
}
