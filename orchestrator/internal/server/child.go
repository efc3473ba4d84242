package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/childsaga"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// The metadata of a command, by which a call is known to come from a saga that has the called one as a step.
const (
	// HeaderCommandID holds the command id, "sagas/{saga}/steps/{step}", of the parent's orchestrator.
	HeaderCommandID = "treaty-command-id"

	// HeaderDirection is "action" or "compensation".
	HeaderDirection = "treaty-direction"

	// TrailerPending says that a child saga hasn't ended yet, or isn't undone yet: the empty reply that it comes with says nothing, and after
	// so many seconds the command is sent again.
	TrailerPending = "treaty-pending"
)

const (
	// pendingLeast and pendingMost bound when the parent's orchestrator asks again. It waits in the call itself, not between the calls, unless
	// the child hasn't changed for long: then it is asked again after a tenth of that time.
	pendingLeast, pendingMost = time.Second, 30 * time.Second

	// maxHeld is how many calls are held at a time. Further ones are answered after holdBriefly, so that those of other commands get
	// through on the same connection.
	maxHeld     = 1000
	holdBriefly = 100 * time.Millisecond

	// holdAtMost is how long a call without a deadline is held.
	holdAtMost = time.Minute

	// answerTime is how long before its deadline a call is answered, or a tenth of its time where that is more; never more than half of it.
	answerTime = time.Second
)

// errHeld ends the wait of a call that has been held for long enough.
var errHeld = errors.New("held for long enough")

// sent is the command that a call carries.
type sent struct {
	id        string
	direction engine.Direction
}

// sentBy reads which command a call carries; nil when it doesn't come from a saga.
func sentBy(ctx context.Context) (*sent, error) {
	ids := metadata.ValueFromIncomingContext(ctx, HeaderCommandID)
	if len(ids) == 0 {
		return nil, nil //nolint:nilnil // most calls carry none
	}
	if _, _, ok := parseCommandID(ids[0]); !ok || len(ids) > 1 {
		return nil, invalid(HeaderCommandID, "%q is no command id: give one, as sagas/ID/steps/STEP, or leave it out when the call doesn't come from a saga", untrusted.Shorten(ids[0]))
	}
	var direction string
	if values := metadata.ValueFromIncomingContext(ctx, HeaderDirection); len(values) > 0 {
		direction = values[0]
	}
	switch direction {
	case engine.Action.String():
		return &sent{ids[0], engine.Action}, nil
	case engine.Compensation.String():
		return &sent{ids[0], engine.Compensation}, nil
	}
	return nil, invalid(HeaderDirection, "is %q: give action or compensation", untrusted.Shorten(direction))
}

// runChild starts a saga that is a step of another one, or attaches to it, and waits for its end for as long as the call may be held.
func (s *Server) runChild(ctx context.Context, d *definition, command *sent, request payload) (any, error) {
	method := about{definition: d.Definition}
	switch {
	case d.Kind == treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED:
		return nil, s.explain(ctx, d.Definition, method, &problem{
			code: codes.InvalidArgument, reason: ReasonNotAStep, definition: d.Definition, metadata: map[string]string{MetadataStep: command.id},
			message: fmt.Sprintf("%s is no command, so %s can't have it as a step: give it a kind with (treaty.v1.command)", d.Definition, command.id),
		})
	case command.direction != engine.Action:
		return nil, s.explain(ctx, d.Definition, method, invalid(HeaderDirection, "is compensation, but %s starts a saga: call the method that its contract names in compensated_by", d.Definition))
	}
	saga, params, err := s.childParams(ctx, d, command, request)
	if err != nil {
		return nil, s.explain(ctx, d.Definition, saga, err)
	}
	started, err := s.engine.Start(ctx, params)
	err = s.introduce(ctx, saga, err)
	if err != nil {
		return nil, s.explain(ctx, d.Definition, saga, err)
	}
	wait, cancel := s.hold(ctx)
	defer cancel()
	end, err := started.Await(wait)
	switch {
	case err != nil && s.heldLongEnough(ctx, wait):
		return s.pending(ctx, saga)
	case err != nil:
		return nil, s.explain(ctx, d.Definition, saga, err)
	case end.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
		return payload(end.Reply), nil
	}
	// Whatever the child failed with, everything that it did is undone: to its parent it is refused.
	return nil, ended(saga, s.causeOf(ctx, saga, end), childsaga.Refusal(end.Failure))
}

// childParams returns how the child that a command starts is started.
func (s *Server) childParams(ctx context.Context, d *definition, command *sent, request []byte) (about, engine.StartParams, error) {
	params, err := childsaga.StartParams(d.SagaDefinition, &treatyv1.Parent{CommandId: command.id, Kind: d.Kind}, request)
	if err != nil {
		return about{definition: d.Definition, step: command.id}, engine.StartParams{}, asInvalid(err)
	}
	saga := about{saga: params.SagaID, definition: d.Definition, step: command.id}
	params.Trace = s.telemetry.StartAnchor(telemetry.Extract(ctx), saga.name(), d.Definition)
	return saga, params, nil
}

// hold returns a context that ends in time to answer the caller that the saga hasn't ended, or when draining begins.
func (s *Server) hold(ctx context.Context) (context.Context, func()) {
	left := holdAtMost
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

// heldLongEnough says whether a wait ended although the caller still waits.
func (s *Server) heldLongEnough(ctx, wait context.Context) bool {
	cause := context.Cause(wait)
	return ctx.Err() == nil && (errors.Is(cause, errHeld) || errors.Is(cause, engine.ErrStopping))
}

// pending answers that the saga has been taken on, and that there is no reply yet.
func (s *Server) pending(ctx context.Context, saga about) (any, error) {
	again := pendingLeast
	if s.held.Load() > maxHeld {
		again = pendingMost
	} else if view, err := s.engine.Get(ctx, saga.saga); err == nil && view.GetUpdateTime() != nil {
		again = min(max(time.Since(view.GetUpdateTime().AsTime())/10, pendingLeast), pendingMost)
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs(TrailerPending, strconv.Itoa(int(again/time.Second)))); err != nil {
		return nil, s.explain(ctx, saga.definition, saga, fmt.Errorf("answering that a child saga hasn't ended: %w", err))
	}
	return payload(nil), nil
}

// undoChild undoes a saga for its parent, and waits until it is undone for as long as the call may be held.
func (s *Server) undoChild(ctx context.Context, d *definition, request payload) (any, error) {
	u := d.Compensation
	command, err := sentBy(ctx)
	switch {
	case err != nil:
		return nil, s.explain(ctx, u.Method, about{definition: d.Definition}, err)
	case command == nil || command.direction != engine.Compensation:
		return nil, s.explain(ctx, u.Method, about{definition: d.Definition}, &problem{
			code: codes.FailedPrecondition, reason: ReasonNotACommand, definition: d.Definition,
			message: u.Method + " undoes a saga for the saga that has it as a step, and only that one's orchestrator calls it; to undo a saga of its own, call treaty.v1.SagaService/CancelSaga",
		})
	}
	if err := untrusted.Unmarshal(request, untrusted.MessageType(u.Input).New().Interface()); err != nil {
		return nil, s.explain(ctx, u.Method, about{definition: d.Definition}, invalid("request", "can't be read as %s, which %s takes: %s", u.Input.FullName(), u.Method, untrusted.Reason(err)))
	}
	action, err := childsaga.ActionRequest(u, request)
	if err != nil {
		return nil, s.explain(ctx, u.Method, about{definition: d.Definition}, err)
	}
	saga, params, err := s.childParams(ctx, d, command, action)
	if err != nil {
		return nil, s.explain(ctx, u.Method, saga, err)
	}
	wait, cancel := s.hold(ctx)
	defer cancel()
	err = s.engine.CompensateChild(wait, params)
	switch {
	case err == nil:
		return payload(nil), nil
	case s.heldLongEnough(ctx, wait) && !errors.Is(err, engine.ErrInDoubt):
		return s.pending(ctx, saga)
	case errors.Is(err, machine.ErrPivotInFlight):
		// Another try may do, so it isn't a refusal, for which the parent would be suspended.
		return nil, s.explain(ctx, u.Method, saga, &problem{code: codes.Aborted, reason: ReasonPivotUnderWay, message: err.Error(), definition: d.Definition})
	default:
		return nil, s.explain(ctx, u.Method, saga, err)
	}
}
