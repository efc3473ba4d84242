package sagatest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/participant"
)

// Answer is what a participant does with one attempt of a command. Its zero value executes the command as if nothing
// had been said.
type Answer struct {
	reply     proto.Message
	err       error
	loss      loss
	rejection protoreflect.FullName // with which err refuses
	wrong     string                // what is wrong with the answer
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
	if rejection == nil {
		return Answer{wrong: "rejects with nil: pass the message of a rejection"}
	}
	name := rejection.ProtoReflect().Descriptor().FullName()
	st, err := status.New(codes.FailedPrecondition, "rejected: "+string(name)).
		WithDetails(protoadapt.MessageV1Of(rejection))
	if err != nil {
		return Answer{wrong: err.Error()}
	}
	return Answer{err: st.Err(), rejection: name}
}

// Fail answers with an error. Its gRPC code says what it means: one such as FAILED_PRECONDITION refuses the command,
// and one such as UNAVAILABLE has it sent again; see the contract's outcomes. An error without a code is INTERNAL.
func Fail(err error) Answer {
	if err == nil {
		return Answer{wrong: "fails with nil: pass an error, or use Reply"}
	}
	return Answer{err: err}
}

// Accept accepts the command, to complete it later: see [World.Complete]. If it isn't completed within the wait, the
// orchestrator sends the command again. The wait is limited as that of participant.Pending, to whole seconds.
func Accept(wait time.Duration) Answer { return Answer{err: participant.Pending(wait)} }

// LoseRequest drops the command before it reaches the participant. The orchestrator doesn't know that.
func LoseRequest() Answer { return Answer{loss: requestLost} }

// LoseReply executes the command, and drops the answer.
func LoseReply() Answer { return Answer{loss: replyLost} }

// checkAnswer returns an error if a method can't answer so.
func (w *World) checkAnswer(call *contract.CallConfig, answer Answer) error {
	switch {
	case answer.wrong != "":
		return fmt.Errorf("it %s", answer.wrong)
	case answer.reply != nil && answer.reply.ProtoReflect().Descriptor().FullName() != call.Output.FullName():
		return fmt.Errorf("it replies with a %s, not a %s", answer.reply.ProtoReflect().Descriptor().FullName(),
			call.Output.FullName())
	case answer.rejection == "":
		return nil
	}
	command, ok := w.catalog.Command(call.Method)
	switch {
	case !ok:
		return fmt.Errorf("it rejects with a %s, but it is a compensation, which has no rejections: use Fail",
			answer.rejection)
	case slices.Contains(command.Rejections, answer.rejection):
		return nil
	case len(command.Rejections) == 0:
		return fmt.Errorf("it rejects with a %s, but its contract declares no rejection: add it there, or use Fail",
			answer.rejection)
	}
	var declared []string
	for _, rejection := range command.Rejections {
		declared = append(declared, string(rejection))
	}
	return fmt.Errorf("it rejects with a %s, but its contract declares only %s: add it there, or use Fail",
		answer.rejection, strings.Join(declared, ", "))
}
