package render

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// CodeName returns a code as the gRPC specification writes it, e.g. "NOT_FOUND".
func CodeName(code codes.Code) string {
	if name, ok := codeNames[code]; ok {
		return name
	}
	return fmt.Sprintf("CODE_%d", uint32(code))
}

var codeNames = map[codes.Code]string{
	codes.OK:                 "OK",
	codes.Canceled:           "CANCELLED",
	codes.Unknown:            "UNKNOWN",
	codes.InvalidArgument:    "INVALID_ARGUMENT",
	codes.DeadlineExceeded:   "DEADLINE_EXCEEDED",
	codes.NotFound:           "NOT_FOUND",
	codes.AlreadyExists:      "ALREADY_EXISTS",
	codes.PermissionDenied:   "PERMISSION_DENIED",
	codes.ResourceExhausted:  "RESOURCE_EXHAUSTED",
	codes.FailedPrecondition: "FAILED_PRECONDITION",
	codes.Aborted:            "ABORTED",
	codes.OutOfRange:         "OUT_OF_RANGE",
	codes.Unimplemented:      "UNIMPLEMENTED",
	codes.Internal:           "INTERNAL",
	codes.Unavailable:        "UNAVAILABLE",
	codes.DataLoss:           "DATA_LOSS",
	codes.Unauthenticated:    "UNAUTHENTICATED",
}

// ParseCode reads a gRPC code as the gRPC specification writes it, in upper or lower case. It returns false for an
// unknown code.
func ParseCode(text string) (codes.Code, bool) {
	for code, name := range codeNames {
		if strings.EqualFold(name, text) {
			return code, true
		}
	}
	return 0, false
}

// FailureText returns the code and message of a failure.
func FailureText(failure *treatyv1.Failure) string {
	name := CodeName(codes.Code(uint32(failure.GetCode())))
	if failure.GetMessage() == "" {
		return name
	}
	return name + ": " + failure.GetMessage()
}
