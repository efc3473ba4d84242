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

// ErrStepEnded is returned by a [Completer] if the saga no longer waits for the command. For example, the command took
// too long and the saga is already compensating, or the saga no longer exists. Retrying won't help. The effect of the
// command stays until its compensation arrives.
var ErrStepEnded = errors.New("the saga no longer waits for this command")

// Completer completes commands that were accepted with [Pending], by calling the orchestrator. It stores nothing and
// doesn't retry. If a completion doesn't get through, the orchestrator sends the command again after the wait given to
// Pending, and the participant answers with the reply that it stored. It may be used concurrently.
type Completer struct {
	sagas treatyv1.SagaServiceClient
}

// NewCompleter returns a completer that calls the orchestrator over a connection. The caller closes the connection.
func NewCompleter(connection grpc.ClientConnInterface) *Completer {
	return &Completer{sagas: treatyv1.NewSagaServiceClient(connection)}
}

// Complete completes a command with the reply of its method. Only the command's id and direction are used. Complete
// returns after the orchestrator has stored the reply durably. Completing a command again with the same reply changes
// nothing. The error is ErrStepEnded or wraps the status of the call. The context should have a deadline.
func (c *Completer) Complete(ctx context.Context, command Command, reply proto.Message) error {
	packed, err := anypb.New(reply)
	if err != nil {
		return fmt.Errorf("completing %s (%s): packing the reply: %w", command.CommandID, command.Direction, err)
	}
	return c.complete(ctx, command,
		&treatyv1.CompleteStepRequest{How: &treatyv1.CompleteStepRequest_Reply{Reply: packed}})
}

// Refuse completes a command with a refusal: the command was certainly not executed. The refusal is an error made by
// the function [Refuse], with a code that refuses. Wrap it with [Settle] if it was stored before, as inbox.Refuse does:
// otherwise the orchestrator must assume that another attempt of the command was executed. In all other respects, this
// method is like Complete.
func (c *Completer) Refuse(ctx context.Context, command Command, refusal error) error {
	s, ok := status.FromError(refusal)
	if !ok || s.Code() == codes.OK {
		return fmt.Errorf("refusing %s (%s): %w is not a status that refuses: use participant.Refuse",
			command.CommandID, command.Direction, orNil(refusal))
	}
	var own interface{ GRPCStatus() *status.Status }
	if errors.As(refusal, &own) {
		s = own.GRPCStatus() // Without the text of wrapping errors.
	}
	failure := &treatyv1.Failure{Code: int32(s.Code()), Message: s.Message(), Details: s.Proto().GetDetails()}
	return c.complete(ctx, command, &treatyv1.CompleteStepRequest{
		How: &treatyv1.CompleteStepRequest_Refusal{Refusal: failure}, Settled: IsSettled(refusal),
	})
}

// errNone stands for a nil error in an error text.
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
	return completerError("completing", command, err)
}

// Heartbeat says that the participant is still working on a command: the orchestrator starts to wait again, for the
// time given to [Pending]. Send heartbeats more often than that. If the error is ErrStepEnded, stop the work. Any other
// error wraps the status of the call and can be ignored until the next heartbeat.
func (c *Completer) Heartbeat(ctx context.Context, command Command) error {
	_, err := c.sagas.HeartbeatStep(ctx, &treatyv1.HeartbeatStepRequest{
		Name: command.CommandID, Direction: directionOf(command.Direction),
	})
	return completerError("sending a heartbeat for", command, err)
}

// completerError returns the error for the status of a call to the orchestrator.
func completerError(doing string, command Command, err error) error {
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.FailedPrecondition, codes.NotFound:
		return fmt.Errorf("%s %s (%s): %w: %w", doing, command.CommandID, command.Direction, ErrStepEnded, err)
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
