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

// refuse is the error with which a saga ends that decides against what was asked. It carries the rejection to whoever
// started the saga, and to the code of a saga that has it as a step.
func refuse(message string, rejection proto.Message) error {
	s, err := status.New(codes.FailedPrecondition, message).WithDetails(protoadapt.MessageV1Of(rejection))
	if err != nil {
		return fmt.Errorf("refusing: %w", err)
	}
	return s.Err()
}

// invalid is the error with which a saga ends that was asked for something impossible.
func invalid(format string, arguments ...any) error {
	return status.Errorf(codes.InvalidArgument, format, arguments...)
}

// forgotten says whether a service refused a command because its customer was forgotten while the saga was under way.
// It is for commands that are refused for no other reason.
func forgotten(err error) bool { return status.Code(err) == codes.FailedPrecondition }

// orElse is a duration of a request, or what holds when there is none.
func orElse(d *durationpb.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.AsDuration()
}
