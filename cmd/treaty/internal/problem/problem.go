package problem

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"
)

// The exit codes of the program.
const (
	// ExitOK is success. For wait and start --wait, the saga SUCCEEDED.
	ExitOK = 0

	// ExitFailure is any failure without its own exit code.
	ExitFailure = 1

	// ExitUsage is an invalid command line: an unknown flag or method, or JSON that doesn't fit.
	ExitUsage = 2

	// ExitCompensated is for wait and start: the saga ended COMPENSATED.
	ExitCompensated = 3

	// ExitInterrupted is for a command that a signal ended.
	ExitInterrupted = 130
)

// Error is a failure, explained to the operator.
type Error struct {
	// Exit is the exit code.
	Exit int

	// Code is the gRPC code, or OK if no call failed.
	Code codes.Code

	// Message says what failed, in one sentence without a period.
	Message string

	// Notes are lines with more about the failure.
	Notes []string

	// Hints are lines that say what to do next.
	Hints []string

	// Details are the details of the gRPC status.
	Details []*anypb.Any
}

// Error returns the message alone.
func (p *Error) Error() string { return p.Message }

// Usage returns a problem of an invalid command line.
func Usage(message string, hints ...string) *Error {
	return &Error{Exit: ExitUsage, Message: message, Hints: hints}
}
