package childsaga

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/admission"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/telemetry"
)

// completionTimeout is how long a parent waits for a child of this orchestrator until it asks again. The child
// completes the parent's step when it ends, so this matters only when that completion is lost.
const completionTimeout = time.Hour

// localTarget is the target of a local child in spans.
const localTarget = "this orchestrator"

// Engine is what Children needs of the engine that it is plugged into.
type Engine interface {
	// Start starts a saga, or finds it.
	Start(ctx context.Context, params engine.StartParams) (*engine.Handle, error)

	// BeginCompensateChild compensates a saga for its parent, and returns whether it is compensated already.
	BeginCompensateChild(ctx context.Context, params engine.StartParams) (compensated bool, err error)

	// CloseChild returns what became of a child, and makes sure that it isn't started later if it wasn't before.
	CloseChild(ctx context.Context, params engine.StartParams) (engine.Closed, error)

	// KnownChild returns what became of a child.
	KnownChild(ctx context.Context, params engine.StartParams) (engine.Known, error)

	// CompleteUnattended completes steps, one after the other, and returns at once.
	CompleteUnattended(completions ...engine.Completion)
}

// Params configures Children.
type Params struct {
	// Participants receives all commands that aren't children of this orchestrator.
	Participants engine.Dispatcher

	// Observer receives all that the engine notifies of.
	Observer engine.Observer

	// Catalog holds the contracts.
	Catalog *contract.Catalog

	// Definitions are the saga definitions that this orchestrator runs.
	Definitions []string

	// Remote are the services for which a participant is configured. Their sagas are children of another orchestrator.
	Remote []string

	// Telemetry makes the spans of local children. Nil makes none.
	Telemetry *telemetry.Telemetry
}

// Children is the engine's dispatcher and observer for child sagas. All methods may be called concurrently.
type Children struct {
	engine.Dispatcher
	engine.Observer

	catalog     *contract.Catalog
	definitions map[string]*contract.SagaDefinition // that this orchestrator runs
	remote      map[string]bool                     // services
	telemetry   *telemetry.Telemetry
	engine      Engine

	admission *admission.Controller // of local children
	starts    *admission.Method     // all commands of local children
}

// New returns the children of an engine that is made next. Call SetEngine before the engine starts or recovers a saga.
func New(params Params) *Children {
	c := &Children{
		Dispatcher: params.Participants, Observer: params.Observer, catalog: params.Catalog,
		telemetry:   params.Telemetry,
		definitions: make(map[string]*contract.SagaDefinition), remote: make(map[string]bool),
		admission: admission.New(admission.Params{}),
	}
	c.starts = c.admission.NewHeldMethod()
	for _, name := range params.Definitions {
		if definition, known := params.Catalog.SagaDefinition(name); known {
			c.definitions[name] = definition
		}
	}
	for _, service := range params.Remote {
		c.remote[service] = true
	}
	return c
}

// SetEngine sets the engine that the children are plugged into.
func (c *Children) SetEngine(e Engine) { c.engine = e }

// Local returns whether a method starts or compensates a child saga that this orchestrator runs.
func (c *Children) Local(method string) bool {
	service, _, _ := strings.Cut(method, "/")
	return !c.remote[service] && c.definitionOf(method) != nil
}

// definitionOf returns the definition whose sagas a method starts or compensates, or nil when this orchestrator runs
// none.
func (c *Children) definitionOf(method string) *contract.SagaDefinition {
	if definition := c.definitions[method]; definition != nil {
		return definition
	}
	if compensated, is := c.catalog.CompensatedSaga(method); is {
		return c.definitions[compensated.Definition]
	}
	return nil
}

// Admit admits a limited number of commands of local children at a time.
func (c *Children) Admit(
	to engine.Destination, call *contract.CallConfig, claim admission.Claim, granted func(*admission.Slot),
) (*admission.Slot, *admission.Wait) {
	if c.Local(to.Method) {
		return c.admission.Admit(c.starts, claim, granted)
	}
	return c.Dispatcher.Admit(to, call, claim, granted)
}

// Attempt starts or compensates a local child. It doesn't wait for the child's end: then the command is pending, and
// the child completes it.
func (c *Children) Attempt(ctx context.Context, attempt *engine.Attempt) engine.Answer {
	if !c.Local(attempt.Call.Method) {
		return c.Dispatcher.Attempt(ctx, attempt)
	}
	defer attempt.Slot.Release()
	span := c.telemetry.StartAttempt(&telemetry.AttemptParams{
		Saga: attempt.Saga, Step: attempt.Step, Direction: attempt.Direction.String(), Number: attempt.Number,
		Epoch: attempt.Epoch, Method: attempt.Call.Method, Target: localTarget, Kind: attempt.Kind,
		Anchor: attempt.Trace,
	})
	answer := c.attempt(span.Context(ctx), attempt)
	span.End(telemetry.AttemptEnd{
		Outcome: answer.Outcome, Code: codes.Code(uint32(answer.Failure.GetCode())), Accepted: answer.Pending > 0,
	})
	return answer
}

// CloseCommand returns what became of a local child, and makes sure that it isn't started later.
func (c *Children) CloseCommand(ctx context.Context, attempt *engine.Attempt) engine.Closed {
	if !c.Local(attempt.Call.Method) {
		return c.Dispatcher.CloseCommand(ctx, attempt)
	}
	params, err := c.startParams(c.definitionOf(attempt.Call.Method), attempt, attempt.Request)
	if err == nil {
		var closed engine.Closed
		if closed, err = c.engine.CloseChild(ctx, params); err == nil {
			if closed.Failure != nil {
				closed.Failure = Refusal(closed.Failure)
			}
			return closed
		}
	}
	return engine.Closed{Halt: haltOf(err), Failure: unavailable(err)}
}

// LookUp returns what became of a local child.
func (c *Children) LookUp(ctx context.Context, attempt *engine.Attempt) engine.Known {
	if !c.Local(attempt.Call.Method) {
		return c.Dispatcher.LookUp(ctx, attempt)
	}
	params, err := c.startParams(c.definitionOf(attempt.Call.Method), attempt, attempt.Request)
	if err == nil {
		var known engine.Known
		if known, err = c.engine.KnownChild(ctx, params); err == nil {
			return known
		}
	}
	return engine.Known{Failure: unavailable(err)}
}

// haltOf returns why asking the engine again is of no use.
func haltOf(err error) engine.Halt {
	switch {
	case errors.Is(err, engine.ErrOtherRequest):
		return engine.HaltOtherRequest
	case errors.Is(err, engine.ErrPurged):
		return engine.HaltPurged
	default:
		return engine.NoHalt
	}
}

func unavailable(err error) *treatyv1.Failure {
	return &treatyv1.Failure{Code: int32(codes.Unavailable), Message: err.Error()}
}

// startParams returns how the local child of a step is started, apart from the trace.
func (c *Children) startParams(
	definition *contract.SagaDefinition, attempt *engine.Attempt, request []byte,
) (engine.StartParams, error) {
	parent := &treatyv1.Parent{CommandId: wire.JoinStep(attempt.Saga, attempt.Step), Kind: definition.Kind, Local: true}
	return StartParams(definition, parent, request)
}

func (c *Children) attempt(ctx context.Context, attempt *engine.Attempt) engine.Answer {
	method := attempt.Call.Method
	definition := c.definitionOf(method)
	request := attempt.Request
	starts := method == definition.Definition
	if !starts {
		var err error
		if request, err = ActionRequest(definition.Compensation, request); err != nil {
			return failed(codes.InvalidArgument, fmt.Sprintf("the request of %s can't be read: %v", method, err))
		}
	}
	params, err := c.startParams(definition, attempt, request)
	if err != nil {
		return failed(codes.InvalidArgument, err.Error())
	}
	params.Trace = c.telemetry.NewChildAnchor(ctx, wire.SagaName(params.SagaID), params.Definition)
	if starts {
		return c.start(ctx, params)
	}
	compensated, err := c.engine.BeginCompensateChild(ctx, params)
	switch {
	case err != nil:
		return inDoubt(err)
	case compensated:
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: []byte{}}
	}
	return pending()
}

func (c *Children) start(ctx context.Context, params engine.StartParams) engine.Answer {
	started, err := c.engine.Start(ctx, params)
	if err != nil {
		return inDoubt(err)
	}
	end, ended, err := started.Ended(ctx)
	switch {
	case err != nil:
		return inDoubt(err)
	case !ended:
		return pending()
	case end.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
		return engine.Answer{Outcome: treatyv1.Outcome_OUTCOME_DONE, Reply: end.Reply}
	}
	return engine.Answer{
		Outcome: treatyv1.Outcome_OUTCOME_REFUSED, Evidence: engine.Settled, Failure: Refusal(end.Failure),
	}
}

// pending is the answer of a child that hasn't ended.
func pending() engine.Answer {
	return engine.Answer{
		Outcome: treatyv1.Outcome_OUTCOME_UNKNOWN, Pending: completionTimeout,
		Failure: &treatyv1.Failure{Code: int32(codes.Unavailable), Message: "the child saga hasn't ended"},
	}
}

// inDoubt is the answer when the engine rejects an attempt. Nothing is known, so the command is sent again.
func inDoubt(err error) engine.Answer { return failed(codes.Unavailable, err.Error()) }

// failed is the answer with a code. A refusal holds for all attempts, since they all have the same request.
func failed(code codes.Code, message string) engine.Answer {
	answer := engine.Answer{
		Outcome: contract.OutcomeOf(nil, code), Failure: &treatyv1.Failure{Code: int32(code), Message: message},
	}
	if answer.Outcome == treatyv1.Outcome_OUTCOME_REFUSED {
		answer.Evidence = engine.Settled
	}
	return answer
}

// SagaEnded completes the step of a parent that runs here. It returns at once.
func (c *Children) SagaEnded(saga *machine.Saga) {
	c.completeParent(saga)
	c.Observer.SagaEnded(saga)
}

func (c *Children) completeParent(saga *machine.Saga) {
	parent := saga.Started.GetParent()
	if !parent.GetLocal() {
		return
	}
	id, step, ok := wire.ParseStepName(parent.GetCommandId())
	if !ok {
		return
	}
	completion := engine.Completion{Saga: id, Step: step, Direction: engine.Action}
	switch {
	case saga.CompensationDecided.GetCause() == treatyv1.CompensationCause_COMPENSATION_CAUSE_PARENT:
		completion.Direction = engine.Compensation
	case saga.State == treatyv1.SagaState_SAGA_STATE_SUCCEEDED:
		completion.Reply = saga.Reply
	default:
		completion.Settled = true
		completion.Refusal = Refusal(saga.CompensationDecided.GetFailure())
		// The parent may have started to compensate the child while the child was compensated for its own reason.
		compensation := engine.Completion{Saga: id, Step: step, Direction: engine.Compensation}
		c.engine.CompleteUnattended(completion, compensation)
		return
	}
	c.engine.CompleteUnattended(completion)
}
