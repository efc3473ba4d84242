package participant

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// Refuse returns the error with which a handler refuses a command: the status, with the rejection, one of those that the
// contract names under "rejections", as its typed detail. The caller's saga code reads it with saga.Rejection. The
// rejection may be nil.
//
// The code says what follows; see [IsRefusal] for the codes that refuse. The message is for developers and goes to the
// caller: no personal data.
func Refuse(code codes.Code, message string, rejection proto.Message) error {
	s := status.New(code, message)
	if rejection == nil {
		return s.Err()
	}
	detailed, err := s.WithDetails(protoadapt.MessageV1Of(rejection))
	if err != nil {
		return status.Error(codes.Internal, fmt.Sprintf("refusing with %s: %v", rejection.ProtoReflect().Descriptor().FullName(), err))
	}
	return detailed.Err()
}

// IsRefusal reports whether a code says, by default, that the command was certainly not executed and that trying again is
// of no use. A contract can give a code another meaning for one command.
//
// Which code to use: INVALID_ARGUMENT when the request could never be right, whatever the state; NOT_FOUND when what it names
// isn't there; ALREADY_EXISTS when what it makes is; FAILED_PRECONDITION when a rule or the state forbids it; OUT_OF_RANGE
// when a number is beyond what is offered; PERMISSION_DENIED when this caller may not. To be tried again, return ABORTED
// (not executed, a conflict) or RESOURCE_EXHAUSTED (not executed, too busy). Any other code leaves open whether the
// command was executed.
func IsRefusal(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange, codes.PermissionDenied:
		return true
	default:
		return false
	}
}
