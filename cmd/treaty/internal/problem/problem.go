package problem

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/anypb"
)

// The exit codes of the program.
const (
	// ExitOK is success; for wait and start --wait: the saga SUCCEEDED.
	ExitOK = 0

	// ExitFailure is a failure that has no code of its own.
	ExitFailure = 1

	// ExitUsage is a wrong command line: an unknown flag or method, JSON that doesn't fit.
	ExitUsage = 2

	// ExitCompensated means that wait or start --wait saw the saga end COMPENSATED.
	ExitCompensated = 3

	// ExitInterrupted means that a signal ended the command.
	ExitInterrupted = 130
)

// Problem is a failure as the operator reads it.
type Problem struct {
	// Exit is the exit code.
	Exit int

	// Code is the gRPC code; OK when no call failed.
	Code codes.Code

	// Message says what failed, in one sentence without a full stop.
	Message string

	// Notes say more about it, a line each.
	Notes []string

	// Hints say what to do next, a line each.
	Hints []string

	// Details are those of the gRPC status.
	Details []*anypb.Any
}

// Error returns the message alone.
func (p *Problem) Error() string { return p.Message }

// Usage makes a problem of a wrong command line.
func Usage(message string, hints ...string) *Problem {
	return &Problem{Exit: ExitUsage, Message: message, Hints: hints}
}
