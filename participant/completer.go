package participant

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// ErrStepOver is the error of a [Completer] when nobody waits for the command any more: it ended otherwise, for example because it took too long
// and the saga was turned around, or its saga isn't there any more. There is no use in trying again. What the command did is undone when
// its compensation comes; until then it stays.
var ErrStepOver = errors.New("nobody waits for this command any more")

// Completer tells the orchestrator about commands that were accepted with [Pending]. It keeps nothing and doesn't retry: when a completion doesn't
// get through, the orchestrator sends the command again once it has waited long enough, and the participant answers with the reply
// that it stored. It may be used concurrently.
type Completer struct {
	sagas treatyv1.SagaServiceClient
}

// NewCompleter returns a completer that calls the orchestrator over the given connection, which stays the caller's.
func NewCompleter(connection grpc.ClientConnInterface) *Completer {
	return &Completer{sagas: treatyv1.NewSagaServiceClient(connection)}
}

// Complete says that a command is done, with the reply of its method. Only the command's id and direction are looked at. It returns once the
// orchestrator has it durably. Completing again with the same reply changes nothing. The error is ErrStepOver, or holds the status of the
// call. The context should have a deadline.
func (c *Completer) Complete(ctx context.Context, command Command, reply proto.Message) error {
	packed, err := anypb.New(reply)
	if err != nil {
		return fmt.Errorf("completing %s (%s): packing the reply: %w", command.CommandID, command.Direction, err)
	}
	return c.complete(ctx, command, &treatyv1.CompleteStepRequest{How: &treatyv1.CompleteStepRequest_Reply{Reply: packed}})
}

// Refuse says that a command was certainly not executed, and why: refusal is a status, as made by [Refuse], whose code refuses. It is otherwise like
// Complete.
func (c *Completer) Refuse(ctx context.Context, command Command, refusal error) error {
	s, ok := status.FromError(refusal)
	if !ok || s.Code() == codes.OK {
		return fmt.Errorf("refusing %s (%s): %w is no status that refuses: use participant.Refuse", command.CommandID, command.Direction, orNil(refusal))
	}
	var own interface{ GRPCStatus() *status.Status }
	if errors.As(refusal, &own) {
		s = own.GRPCStatus() // without the text of what wraps it
	}
	failure := &treatyv1.Failure{Code: int32(s.Code()), Message: s.Message(), Details: s.Proto().GetDetails()}
	return c.complete(ctx, command, &treatyv1.CompleteStepRequest{How: &treatyv1.CompleteStepRequest_Refusal{Refusal: failure}})
}

// errNone stands for an error that isn't there.
var errNone = errors.New("nil")

func orNil(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

func (c *Completer) complete(ctx context.Context, command Command, request *treatyv1.CompleteStepRequest) error {
	request.Name, request.Direction = command.CommandID, directionOf(command.Direction)
	_, err := c.sagas.CompleteStep(ctx, request)
	return said("completing", command, err)
}

// Heartbeat says that a command is still being worked on: the orchestrator's patience, as given to [Pending], begins anew. Send it more often than
// that. The error is ErrStepOver, on which the work can be stopped, or holds the status of the call, which can be ignored until
// the next heartbeat.
func (c *Completer) Heartbeat(ctx context.Context, command Command) error {
	_, err := c.sagas.HeartbeatStep(ctx, &treatyv1.HeartbeatStepRequest{Name: command.CommandID, Direction: directionOf(command.Direction)})
	return said("sending a heartbeat for", command, err)
}

// said turns the orchestrator's answer into what a participant has to know.
func said(doing string, command Command, err error) error {
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.FailedPrecondition, codes.NotFound:
		return fmt.Errorf("%s %s (%s): %w: %w", doing, command.CommandID, command.Direction, ErrStepOver, err)
	default:
		return fmt.Errorf("%s %s (%s): %w", doing, command.CommandID, command.Direction, err)
	}
}

func directionOf(d Direction) treatyv1.StepDirection {
	switch d {
	case Action:
		return treatyv1.StepDirection_STEP_DIRECTION_ACTION
	case Compensation:
		return treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION
	default:
		return treatyv1.StepDirection_STEP_DIRECTION_UNSPECIFIED
	}
}
