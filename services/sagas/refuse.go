package main

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

// refuse returns the error of a saga that decides against its request. It carries the rejection to the caller who
// started the saga, and to a saga that runs this one as a step.
func refuse(message string, rejection proto.Message) error {
	s, err := status.New(codes.FailedPrecondition, message).WithDetails(protoadapt.MessageV1Of(rejection))
	if err != nil {
		return fmt.Errorf("refusing: %w", err)
	}
	return s.Err()
}

// invalid returns the error of a saga whose request is invalid.
func invalid(format string, arguments ...any) error {
	return status.Errorf(codes.InvalidArgument, format, arguments...)
}

// forgotten reports whether a service refused a command because its customer was forgotten while the saga was in
// flight. It is only for commands that are refused for no other reason.
func forgotten(err error) bool { return status.Code(err) == codes.FailedPrecondition }

// orElse returns a duration of a request, or the default if the request has none.
func orElse(d *durationpb.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.AsDuration()
}
