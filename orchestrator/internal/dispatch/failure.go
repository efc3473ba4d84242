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
	// maxFailureMessageBytes bounds the message of a failure, maxFailureDetailBytes its details taken together: what goes
	// into the journal must not be for a participant to decide.
	maxFailureMessageBytes = 4 << 10
	maxFailureDetailBytes  = 256 << 10

	// maxRetryAfter bounds how long a participant can ask to be left alone.
	maxRetryAfter = 10 * time.Minute
)

// retryInfoName is the name of the detail that holds how long to wait.
var retryInfoName = (*errdetails.RetryInfo)(nil).ProtoReflect().Descriptor().FullName()

// failureOf returns a status as the journal stores it, and how long it asks to wait. Details are kept as they are, whatever their
// types: a refusal is one even if its contract doesn't know what it carries. Those beyond the limit are left out.
func failureOf(st *status.Status) (*treatyv1.Failure, time.Duration) {
	failure := &treatyv1.Failure{Code: int32(st.Code()), Message: bounded(st.Message())}
	details := st.Proto().GetDetails()
	if len(details) == 0 {
		return failure, 0
	}
	var retryAfter time.Duration
	room := maxFailureDetailBytes
	kept := make([]*anypb.Any, 0, len(details))
	for _, detail := range details {
		if detail.MessageName() == retryInfoName {
			retryAfter = delayOf(detail)
		}
		if room -= proto.Size(detail); room < 0 {
			break
		}
		kept = append(kept, detail)
	}
	failure.Details = kept
	return failure, retryAfter
}

// delayOf reads a RetryInfo; one that makes no sense asks for nothing.
func delayOf(detail *anypb.Any) time.Duration {
	var info errdetails.RetryInfo
	if err := proto.Unmarshal(detail.GetValue(), &info); err != nil || info.GetRetryDelay().CheckValid() != nil {
		return 0
	}
	return min(max(info.GetRetryDelay().AsDuration(), 0), maxRetryAfter)
}

// bounded returns a message that protobuf can hold and that isn't longer than the limit.
func bounded(message string) string {
	if len(message) > maxFailureMessageBytes {
		message = message[:maxFailureMessageBytes]
	}
	return strings.ToValidUTF8(message, "\uFFFD")
}
