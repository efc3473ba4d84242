package problem

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
)

// errorInfo returns the ErrorInfo that an orchestrator attaches to each of its errors. It returns nil when the error
// comes from elsewhere, such as a proxy or gRPC itself.
func errorInfo(failure *status.Status) *errdetails.ErrorInfo {
	for _, detail := range failure.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == wire.ErrorDomain {
			return info
		}
	}
	return nil
}

// reasonOf returns the reason of an orchestrator's error. It returns UNSPECIFIED when the error comes from elsewhere,
// or when this program doesn't know the reason.
func reasonOf(failure *status.Status) treatyv1.ErrorReason {
	return wire.ParseReason(errorInfo(failure).GetReason())
}

// IsStalled reports whether an orchestrator has ended a stream since nothing of it was read for a while.
func IsStalled(err error) bool {
	failure, _ := status.FromError(err)
	return reasonOf(failure) == treatyv1.ErrorReason_ERROR_REASON_STREAM_STALLED
}

// sagaOf returns the name of the saga that an orchestrator's error is about, or "".
func sagaOf(failure *status.Status) string { return errorInfo(failure).GetMetadata()[wire.ErrorSaga] }
