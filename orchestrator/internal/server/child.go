package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/incoming"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/internal/childsaga"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/journal"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

const (
	// heldAgain is the time after which a parent's orchestrator sends the command of a pending child again, to be held
	// again until the child ends. So it knows of the child's end within about a second.
	heldAgain = time.Second

	// maxHeld is how many calls are held at the same time. Further calls are answered after holdBriefly, so that calls
	// of other commands get through on the same connection, and come again after brieflyAgain.
	maxHeld      = 1000
	holdBriefly  = 100 * time.Millisecond
	brieflyAgain = 30 * time.Second

	// maxHold is how long a call without a deadline is held.
	maxHold = time.Minute

	// answerTime is how long before its deadline a held call is answered, or a tenth of its time if that is longer, but
	// at most half of its time.
	answerTime = time.Second
)

// errHeld ends the wait of a call that was held for long enough.
var errHeld = errors.New("held for long enough")

// parentCommand is the command of a parent saga, which a call to a saga's own method carries.
type parentCommand struct {
	incoming.Command

	direction engine.Direction
}

// caller returns the orchestrator that sends the command.
func (c *parentCommand) caller() incoming.Caller {
	return incoming.Caller{Scope: c.Scope, Epoch: c.Epoch}
}

// parent returns the parent of a child that the command starts.
func (c *parentCommand) parent(kind treatyv1.CommandKind) *treatyv1.Parent {
	parent := &treatyv1.Parent{CommandId: c.ID, Kind: kind, Scope: c.Scope, RequestDigest: c.RequestDigest}
	if !c.Start.IsZero() {
		parent.SagaStart = timestamppb.New(c.Start)
	}
	return parent
}

// parentCommandOf returns the command that a call carries, or nil when the call isn't made for a step of another saga.
func parentCommandOf(ctx context.Context) (*parentCommand, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	command, found, err := incoming.ParseCommand(md)
	if err == nil && !found {
		return nil, nil
	}
	if _, _, ok := parseCommandID(command.ID); err == nil && !ok {
		err = fmt.Errorf("metadata %s: %q isn't a command id: want one, sagas/ID/steps/STEP, or none when the call "+
			"isn't made for a step of a saga", wire.CommandIDKey, untrusted.Shorten(command.ID))
	}
	if err != nil {
		return nil, &apiError{
			code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_METADATA_INVALID,
			message: err.Error(),
		}
	}
	direction := engine.Action
	if command.Direction == wire.Compensation {
		direction = engine.Compensation
	}
	return &parentCommand{command, direction}, nil
}

// parentCommand is parentCommandOf, and takes note of the epoch under which the command was sent, whatever becomes of
// the call. It returns an error if the caller isn't believed.
func (s *Server) parentCommand(ctx context.Context, method string, d *definition) (*parentCommand, error) {
	command, err := parentCommandOf(ctx)
	if err == nil && command != nil {
		err = s.checkParent(ctx, method, d)
	}
	if err == nil && command != nil {
		err = s.scopes.hear(ctx, command.caller())
	}
	return command, err
}

// runChild starts a child saga or finds it, and waits for its end for as long as the call may be held.
func (s *Server) runChild(ctx context.Context, d *definition, command *parentCommand, request payload) (any, error) {
	switch {
	case d.Kind == treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED:
		return nil, &apiError{
			code: codes.InvalidArgument, reason: treatyv1.ErrorReason_ERROR_REASON_NOT_A_STEP,
			subject: subject{definition: d.Definition, step: command.ID},
			message: fmt.Sprintf("%s isn't a command, so it can't be the step %s: give it a kind with "+
				"(treaty.v1.command)",
				d.Definition, command.ID),
		}
	case command.direction != engine.Action:
		return nil, invalid(wire.DirectionKey, "is compensation, but %s starts a saga: "+
			"call the method that its contract names in compensated_by", d.Definition)
	}
	saga, params, err := s.childParams(ctx, d, command, request)
	if err != nil {
		return nil, saga.of(err)
	}
	started, err := s.startChild(ctx, command, params)
	if err = s.sendSagaName(ctx, saga, err); err != nil {
		return nil, saga.of(forParent(err))
	}
	wait, cancel := s.hold(ctx)
	defer cancel()
	end, err := started.Await(wait)
	switch {
	case err != nil && s.heldLongEnough(ctx, wait):
		return s.answerPending(ctx, saga)
	case err != nil:
		return nil, saga.of(forParent(err))
	case end.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
		incoming.Mark(ctx, wire.AnswerDone)
		return payload(end.Reply), nil
	}
	// Everything that the child did is compensated, so its parent receives a refusal, whatever the child failed with.
	return nil, &sagaEndedError{saga: saga, cause: s.causeOf(ctx, saga, end), failure: childsaga.Refusal(end.Failure)}
}

// startChild starts a child under its parent's epoch. Once a higher epoch of the scope was heard, none is started under
// a lower one. So the start doesn't end early.
func (s *Server) startChild(ctx context.Context, command *parentCommand, params engine.StartParams) (Started, error) {
	leave, err := s.scopes.enter(ctx, command.caller())
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.engine.Start(context.WithoutCancel(ctx), params)
}

// undoChild is startChild for the compensation of a child. It returns whether the child is compensated already.
func (s *Server) undoChild(ctx context.Context, command *parentCommand, params engine.StartParams) (bool, error) {
	leave, err := s.scopes.enter(ctx, command.caller())
	if err != nil {
		return false, err
	}
	defer leave()
	return s.engine.BeginCompensateChild(context.WithoutCancel(ctx), params)
}

// forParent returns an error as the orchestrator of a parent understands it: a code that means "refused" would say that
// nothing was done.
func forParent(err error) error {
	if other, is := errors.AsType[*engine.OtherRequestError](err); is {
		return &apiError{
			code: codes.Internal, reason: treatyv1.ErrorReason_ERROR_REASON_OTHER_REQUEST,
			message: fmt.Sprintf("another request is known under the command id: %s, with the digest %q",
				other.Definition, other.Digest),
			metadata: map[string]string{wire.ErrorMethod: other.Definition, wire.ErrorDigest: other.Digest},
		}
	}
	if errors.Is(err, engine.ErrPurged) || errors.Is(err, journal.ErrNotFound) {
		return &apiError{
			code: codes.Internal, reason: treatyv1.ErrorReason_ERROR_REASON_PURGED,
			message: "it is no longer known what became of the command: the saga that it started has ended and was " +
				"purged",
		}
	}
	return err
}

// childParams returns how the child that a command starts is started. The subject has no saga when the request is
// invalid.
func (s *Server) childParams(
	ctx context.Context, d *definition, command *parentCommand, request []byte,
) (subject, engine.StartParams, error) {
	about := subject{definition: d.Definition, step: command.ID}
	params, err := childsaga.StartParams(d.SagaDefinition, command.parent(d.Kind), request)
	if err != nil {
		return about, engine.StartParams{}, asInvalid(err)
	}
	about.saga = params.SagaID
	params.Principal = access.PrincipalOf(ctx).String()
	params.Trace = s.telemetry.NewChildAnchor(ctx, about.sagaName(), d.Definition)
	return about, params, nil
}

// hold returns a context that ends early enough to answer the caller that the saga hasn't ended, or when the server
// drains.
func (s *Server) hold(ctx context.Context) (context.Context, func()) {
	left := maxHold
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
		left -= min(max(answerTime, left/10), left/2)
	}
	if s.held.Add(1) > maxHeld {
		left = min(left, holdBriefly)
	}
	timed, cancel := context.WithTimeoutCause(ctx, left, errHeld)
	wait, stop := s.untilStopping(timed)
	return wait, func() { stop(); cancel(); s.held.Add(-1) }
}

// heldLongEnough returns whether a wait ended although the caller still waits.
func (s *Server) heldLongEnough(ctx, wait context.Context) bool {
	cause := context.Cause(wait)
	return ctx.Err() == nil && (errors.Is(cause, errHeld) || errors.Is(cause, engine.ErrStopping))
}

// askAgain returns the time after which a parent's orchestrator asks again for a child that hasn't ended.
func (s *Server) askAgain() time.Duration {
	if s.held.Load() > maxHeld {
		return brieflyAgain
	}
	return heldAgain
}

// answerPending answers that the command was accepted and that its saga hasn't ended.
func (s *Server) answerPending(ctx context.Context, saga subject) (any, error) {
	trailer := metadata.Pairs(wire.PendingKey, strconv.Itoa(int(s.askAgain()/time.Second)))
	if err := grpc.SetTrailer(ctx, trailer); err != nil {
		return nil, saga.of(fmt.Errorf("answering that a child saga hasn't ended: %w", err))
	}
	return payload(nil), nil
}

// compensateChild compensates a child saga for its parent, and waits until it is compensated for as long as the call
// may be held.
func (s *Server) compensateChild(ctx context.Context, d *definition, request payload) (any, error) {
	method := d.Compensation.Method
	command, err := s.parentCommand(ctx, method, d)
	switch {
	case err != nil:
		return nil, err
	case command == nil || command.direction != engine.Compensation:
		return nil, &apiError{
			code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_NOT_A_COMMAND,
			message: method + " compensates a saga for its parent, and only the parent's orchestrator calls it; " +
				"to cancel a saga without a parent, call treaty.v1.SagaService/CancelSaga",
		}
	}
	input := d.Compensation.Input
	if err := untrusted.Unmarshal(request, untrusted.MessageType(input).New().Interface()); err != nil {
		return nil, invalid("request", "can't be read as %s, which %s takes: %s",
			input.FullName(), method, untrusted.Reason(err))
	}
	action, err := childsaga.ActionRequest(d.Compensation, request)
	if err != nil {
		return nil, err
	}
	saga, params, err := s.childParams(ctx, d, command, action)
	if err != nil {
		return nil, saga.of(err)
	}
	if params.Executed, err = childsaga.HasReply(d.Compensation, request); err != nil {
		return nil, saga.of(err)
	}
	wait, cancel := s.hold(ctx)
	defer cancel()
	undone, err := s.undoChild(ctx, command, params)
	if err == nil && !undone {
		_, err = s.engine.Await(wait, saga.saga)
	}
	switch {
	case err == nil:
		incoming.Mark(ctx, wire.AnswerDone)
		return payload(nil), nil
	case s.heldLongEnough(ctx, wait) && !errors.Is(err, engine.ErrInDoubt):
		return s.answerPending(ctx, saga)
	case errors.Is(err, machine.ErrPivotInFlight):
		// ABORTED, since a later attempt may succeed. A refusal would suspend the parent.
		return nil, saga.of(&apiError{
			code: codes.Aborted, reason: treatyv1.ErrorReason_ERROR_REASON_PIVOT_IN_FLIGHT, message: err.Error(),
		})
	default:
		return nil, saga.of(forParent(err))
	}
}
