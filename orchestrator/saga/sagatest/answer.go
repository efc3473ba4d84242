package sagatest

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
)

// Answer is what a participant does with one attempt of a command. Its zero value executes the command as if nothing
// had been said.
type Answer struct {
	reply proto.Message
	err   error
	loss  loss
}

// loss is what the network does to an attempt.
type loss int

const (
	nothingLost loss = iota
	requestLost
	replyLost
)

// Reply executes the command, and answers with the message.
func Reply(reply proto.Message) Answer { return Answer{reply: reply} }

// Reject refuses the command with a rejection that its contract declares. The code is FAILED_PRECONDITION.
func Reject(rejection proto.Message) Answer {
	name := string(rejection.ProtoReflect().Descriptor().FullName())
	st, err := status.New(codes.FailedPrecondition, "rejected: "+name).WithDetails(protoadapt.MessageV1Of(rejection))
	if err != nil {
		return Answer{err: err}
	}
	return Answer{err: st.Err()}
}

// Fail answers with an error. Its gRPC code says what it means: one such as FAILED_PRECONDITION refuses the command,
// and one such as UNAVAILABLE has it sent again; see the contract's outcomes. An error without a code is INTERNAL.
func Fail(err error) Answer { return Answer{err: err} }

// LoseRequest drops the command before it reaches the participant. The orchestrator doesn't know that.
func LoseRequest() Answer { return Answer{loss: requestLost} }

// LoseReply executes the command, and drops the answer.
func LoseReply() Answer { return Answer{loss: replyLost} }
