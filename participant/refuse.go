package participant

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// Refuse returns the error with which a handler refuses a command: a status with the rejection as its typed detail. The
// rejection is one of the messages that the contract lists under "rejections", or nil. Saga code reads it with
// saga.Rejection.
//
// The code decides the outcome; see [IsRefusal] for the codes that refuse. The message is for developers and reaches
// the caller, so it must not contain personal data.
func Refuse(code codes.Code, message string, rejection proto.Message) error {
	s := status.New(code, message)
	if rejection == nil {
		return s.Err()
	}
	detailed, err := s.WithDetails(protoadapt.MessageV1Of(rejection))
	if err != nil {
		name := rejection.ProtoReflect().Descriptor().FullName()
		return status.Error(codes.Internal, fmt.Sprintf("refusing with %s: %v", name, err))
	}
	return detailed.Err()
}

// IsRefusal reports whether a code means by default that the command was certainly not executed and that retrying won't
// help. A contract can give a code another meaning for one command.
//
// Which code to use:
//
//   - INVALID_ARGUMENT: the request is wrong, whatever the state of the service.
//   - NOT_FOUND: something that the request names doesn't exist.
//   - ALREADY_EXISTS: what the command would create exists.
//   - FAILED_PRECONDITION: a rule or the current state forbids the command.
//   - OUT_OF_RANGE: a number exceeds what the service offers.
//   - PERMISSION_DENIED: the caller isn't allowed to send the command.
//
// To have the command retried, return ABORTED (not executed, because of a conflict) or RESOURCE_EXHAUSTED (not
// executed, because the service is overloaded). With any other code it is unknown whether the command was executed.
func IsRefusal(code codes.Code) bool {
	switch code {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.OutOfRange,
		codes.PermissionDenied:
		return true
	default:
		return false
	}
}
