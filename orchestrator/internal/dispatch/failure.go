package dispatch

import (
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

const (
	// maxFailureMessageBytes and maxFailureDetailBytes limit the message of a failure and the sum of its details, so
	// that a participant can't fill the journal.
	maxFailureMessageBytes = 4 << 10
	maxFailureDetailBytes  = 256 << 10

	// maxRetryAfter is the longest wait that a participant can ask for.
	maxRetryAfter = 10 * time.Minute
)

// retryInfoName is the name of the detail with the wait that a participant asks for.
var retryInfoName = (*errdetails.RetryInfo)(nil).ProtoReflect().Descriptor().FullName()

// failureOf converts a status to what the journal stores, and returns the wait that it asks for. Details are kept
// whatever their types, since a refusal counts even if the contract doesn't declare the rejection. Details beyond the
// limit are dropped.
func failureOf(st *status.Status) (*treatyv1.Failure, time.Duration) {
	failure := &treatyv1.Failure{Code: int32(st.Code()), Message: truncate(st.Message())}
	details := st.Proto().GetDetails()
	if len(details) == 0 {
		return failure, 0
	}
	var retryAfter time.Duration
	room := maxFailureDetailBytes
	kept := make([]*anypb.Any, 0, len(details))
	for _, detail := range details {
		if detail.MessageName() == retryInfoName {
			retryAfter = retryDelay(detail)
		}
		if room -= proto.Size(detail); room < 0 {
			break
		}
		kept = append(kept, detail)
	}
	failure.Details = kept
	return failure, retryAfter
}

// retryDelay returns the delay in a RetryInfo, or 0 if it is invalid.
func retryDelay(detail *anypb.Any) time.Duration {
	var info errdetails.RetryInfo
	if err := proto.Unmarshal(detail.GetValue(), &info); err != nil || info.GetRetryDelay().CheckValid() != nil {
		return 0
	}
	return min(max(info.GetRetryDelay().AsDuration(), 0), maxRetryAfter)
}

// truncate returns a message that is valid UTF-8, as protobuf needs, cut to the limit.
func truncate(message string) string {
	if len(message) > maxFailureMessageBytes {
		message = message[:maxFailureMessageBytes]
	}
	return strings.ToValidUTF8(message, "\uFFFD")
}
