package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/internal/wire"
	"github.com/treatyhq/treaty/orchestrator/access"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

const (
	// maxRefusalMessage limits the message of a refusal, in bytes.
	maxRefusalMessage = 4 << 10

	// maxRefusalDetails limits the details of a refusal, in bytes for all of them.
	maxRefusalDetails = 256 << 10
)

// The methods of this file, without the slash before them.
const (
	methodCompleteStep  = "treaty.v1.SagaService/CompleteStep"
	methodHeartbeatStep = "treaty.v1.SagaService/HeartbeatStep"
)

// command identifies one of the two commands of a step.
type command struct {
	saga, step string
	direction  engine.Direction
}

// id returns the command id, which is the step's name.
func (c command) id() string { return wire.StepName(c.saga, c.step) }

// commandOf returns the command that a request names.
func commandOf(name string, direction treatyv1.StepDirection) (command, error) {
	if name == "" {
		return command{}, invalid("name", "is missing: want the command id from the command's metadata, "+
			"sagas/ID/steps/STEP")
	}
	saga, step, ok := parseCommandID(name)
	if !ok {
		return command{}, invalid("name", "%q isn't a command id: want the one from the command's metadata, "+
			"sagas/ID/steps/STEP", untrusted.Shorten(name))
	}
	c := command{saga: saga, step: step}
	switch direction {
	case treatyv1.StepDirection_STEP_DIRECTION_ACTION:
		c.direction = engine.Action
	case treatyv1.StepDirection_STEP_DIRECTION_COMPENSATION:
		c.direction = engine.Compensation
	default:
		return command{}, invalid("direction", "is missing: want the one from the command's metadata, "+
			"action or compensation")
	}
	return c, nil
}

// CompleteStep completes a pending command.
func (s *Server) CompleteStep(
	ctx context.Context, request *treatyv1.CompleteStepRequest,
) (*treatyv1.CompleteStepResponse, error) {
	action := access.Complete
	if request.GetDecision() != nil {
		action = access.Resume // a person decides about the step
	}
	q := question{server: s, ctx: ctx, method: methodCompleteStep, request: request}
	c, step, method, err := q.step(action, request.GetName(), request.GetDirection())
	if err != nil {
		return nil, err
	}
	if request.GetForce() && request.GetDecision() == nil {
		return nil, invalid("force", "is for a person: set decision, or leave it out")
	}
	completion, err := s.completion(c, step, method, request)
	if err == nil && request.GetDecision() != nil {
		completion.Decision, err = personsDecisionOf(ctx, request.GetDecision())
		if err == nil {
			err = s.checkPublishable("reply", request.GetReply())
		}
	}
	if err == nil {
		completion.Etag, completion.Force = request.GetEtag(), request.GetForce()
		completion.Principal = access.PrincipalOf(ctx).String()
		err = invalidReply("reply", s.engine.Complete(ctx, completion))
	}
	if err != nil {
		return nil, err
	}
	return &treatyv1.CompleteStepResponse{}, nil
}

// step returns the command that a request names with its step and method, if the caller may speak for its participant.
func (q question) step(
	action access.Action, name string, direction treatyv1.StepDirection,
) (c command, step *treatyv1.Step, method string, err error) {
	request := access.Request{Action: action}
	if c, err = commandOf(name, direction); err == nil {
		request.Saga = wire.SagaName(c.saga)
		step, method, request.Definition, err = q.server.stepOf(q.ctx, c)
		request.Method = method
	}
	if err != nil {
		// Whether the step exists is told only to those who may do this with every step.
		if refused := q.ask(request); refused != nil {
			return c, nil, "", refused
		}
		return c, nil, "", err
	}
	service := step.GetParticipant()
	if service == "" {
		service, _, _ = strings.Cut(method, "/")
	}
	return c, step, method, q.decide(request, q.server.checkParticipant(q.ctx, c, service))
}

// stepOf returns a command's step and method, and the definition of its saga.
func (s *Server) stepOf(ctx context.Context, c command) (step *treatyv1.Step, method, definition string, err error) {
	saga, err := s.engine.Get(ctx, c.saga)
	if err != nil {
		return nil, "", "", err
	}
	definition = saga.GetDefinition()
	i := slices.IndexFunc(saga.GetSteps(), func(step *treatyv1.Step) bool { return step.GetName() == c.id() })
	if i < 0 {
		return nil, "", definition, fmt.Errorf("%w: %s", engine.ErrStepNotFound, c.id())
	}
	step = saga.GetSteps()[i]
	method = step.GetMethod()
	if c.direction == engine.Compensation {
		if method = step.GetCompensationMethod(); method == "" {
			return nil, "", definition, fmt.Errorf("%w: %s has no compensation", engine.ErrStepNotFound, c.id())
		}
	}
	return step, method, definition, nil
}

// checkParticipant returns an error if the identities of the participant that serves a service are known, and the
// caller has none of them. If other machines can reach the API, they must be known.
func (s *Server) checkParticipant(ctx context.Context, c command, service string) error {
	identities := s.identities[service]
	switch {
	case len(identities) == 0 && s.strict:
		return &apiError{
			code: codes.PermissionDenied, reason: treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_PARTICIPANT,
			subject: subject{step: c.id()},
			message: fmt.Sprintf("only the step's participant, which serves %s, may do this, and the orchestrator "+
				"doesn't know who that is: declare its identity there, with --participant-identity %s=IDENTITY; the "+
				"caller is %s", service, service, strings.Join(access.PrincipalOf(ctx).Identities(), ", ")),
		}
	case len(identities) == 0, callerIs(ctx, identities):
		return nil
	}
	return &apiError{
		code: codes.PermissionDenied, reason: treatyv1.ErrorReason_ERROR_REASON_CALLER_NOT_PARTICIPANT,
		subject: subject{step: c.id()},
		message: fmt.Sprintf("only the step's participant, which serves %s, may do this, and the caller is %s: use "+
			"the participant's certificate or token, or declare the caller's identity at the orchestrator, with "+
			"--participant-identity %s=IDENTITY", service,
			strings.Join(access.PrincipalOf(ctx).Identities(), ", "), service),
	}
}

// completion checks the request against the contract of the step's method and returns what the engine needs.
func (s *Server) completion(
	c command, step *treatyv1.Step, method string, request *treatyv1.CompleteStepRequest,
) (completion engine.Completion, err error) {
	if _, is := s.catalog.SagaDefinition(step.GetMethod()); is {
		return completion, stepIsSagaError(c, step.GetMethod())
	}
	call, known := s.catalog.CallConfig(method)
	if !known {
		return completion, &apiError{
			code: codes.Unimplemented, reason: treatyv1.ErrorReason_ERROR_REASON_CONTRACT_UNKNOWN,
			message: fmt.Sprintf("the contract of %s isn't linked into this orchestrator, so the completion can't be "+
				"checked: link it and complete the command again", method),
		}
	}
	completion = engine.Completion{Saga: c.saga, Step: c.step, Direction: c.direction}
	switch how := request.GetHow().(type) {
	case *treatyv1.CompleteStepRequest_Reply:
		completion.Reply, err = checkReply(how.Reply, call)
		if err == nil && c.direction == engine.Action && step.GetReply() != nil &&
			sameMessage(call, step.GetReply(), how.Reply) {
			// Serialization isn't stable: the same reply may have other bytes than before.
			completion.Reply = nonNil(step.GetReply().GetValue())
		}
	case *treatyv1.CompleteStepRequest_Refusal:
		completion.Refusal, err = checkRefusal(how.Refusal, call)
		completion.Settled = request.GetSettled()
	default:
		err = invalid("how", "is missing: want a reply or a refusal")
	}
	return completion, err
}

// stepIsSagaError returns the error for completing a step that is a child saga, here or at another orchestrator. Only
// the end of the child completes the step, so that the parent continues with the child's real outcome.
func stepIsSagaError(c command, definition string) error {
	return &apiError{
		code: codes.FailedPrecondition, reason: treatyv1.ErrorReason_ERROR_REASON_STEP_IS_SAGA,
		subject: subject{step: c.id()},
		message: fmt.Sprintf("the step is the child saga %s of %s and ends with it: cancel or resume the child at "+
			"the orchestrator that runs it", childName(definition, c.id()), definition),
	}
}

// childName returns the name of the child saga that a step is.
func childName(definition, step string) string {
	return wire.SagaName(engine.ChildID(definition, step))
}

func checkReply(reply *anypb.Any, call *contract.CallConfig) ([]byte, error) {
	if n := len(reply.GetValue()); n > machine.MaxPayloadBytes {
		return nil, invalid("reply", "has %d bytes; at most %d are allowed", n, machine.MaxPayloadBytes)
	}
	if err := checkMessage("reply", reply, call.Output); err != nil {
		return nil, err
	}
	return nonNil(reply.GetValue()), nil
}

// invalidReply names the field with the reply in the error that it is too large for the step's compensation. It returns
// other errors as they are.
func invalidReply(field string, err error) error {
	if errors.Is(err, machine.ErrReplyTooLarge) {
		return invalid(field, "is too large: %v; store the data elsewhere and reply with a reference", err)
	}
	return err
}

// checkPublishable returns an error if a person's reply is an event that nobody could await, since its correlation key
// is missing. A participant's own reply is taken as it is: it has happened.
func (s *Server) checkPublishable(field string, reply *anypb.Any) error {
	event, is := s.catalog.EventType(string(reply.MessageName()))
	if reply == nil || !is {
		return nil
	}
	if _, err := event.Subject(reply.GetValue()); err != nil {
		return invalid(field+"."+string(event.Key.Name()), "is missing or can't be read: the reply is the event %s, "+
			"and sagas await it by this field: %v", event.Type, err)
	}
	return nil
}

// nonNil returns an empty slice for nil. The engine reads nil as an absent message.
func nonNil(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

func sameMessage(call *contract.CallConfig, a, b *anypb.Any) bool {
	output := untrusted.MessageType(call.Output)
	left, right := output.New().Interface(), output.New().Interface()
	return untrusted.Unmarshal(a.GetValue(), left) == nil && untrusted.Unmarshal(b.GetValue(), right) == nil &&
		proto.Equal(left, right)
}

func checkRefusal(refusal *treatyv1.Failure, call *contract.CallConfig) (*treatyv1.Failure, error) {
	code := codes.Code(uint32(refusal.GetCode()))
	if contract.OutcomeOf(call, code) != treatyv1.Outcome_OUTCOME_REFUSED {
		return nil, invalid("refusal.code", "is %s, which doesn't mean that %s was certainly not "+
			"executed: want %s", code, call.Method, refusalCodes(call))
	}
	if n := len(refusal.GetMessage()); n > maxRefusalMessage {
		return nil, invalid("refusal.message", "has %d bytes; at most %d are allowed", n, maxRefusalMessage)
	}
	size := 0
	for _, detail := range refusal.GetDetails() {
		size += proto.Size(detail)
	}
	if size > maxRefusalDetails {
		return nil, invalid("refusal.details", "have %d bytes; at most %d are allowed", size, maxRefusalDetails)
	}
	return refusal, nil
}

// refusalCodes lists the codes with the outcome refused for a call.
func refusalCodes(call *contract.CallConfig) string {
	var names []string
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if contract.OutcomeOf(call, code) == treatyv1.Outcome_OUTCOME_REFUSED {
			names = append(names, code.String())
		}
	}
	if len(names) == 0 {
		return "a reply, because no code means that for this method"
	}
	return strings.Join(names, ", ")
}

// HeartbeatStep postpones the next attempt of a pending command.
func (s *Server) HeartbeatStep(
	ctx context.Context, request *treatyv1.HeartbeatStepRequest,
) (*treatyv1.HeartbeatStepResponse, error) {
	c, err := commandOf(request.GetName(), request.GetDirection())
	if s.guarded() || (s.strict || len(s.identities) > 0) && err == nil {
		q := question{server: s, ctx: ctx, method: methodHeartbeatStep, request: request}
		c, _, _, err = q.step(access.Complete, request.GetName(), request.GetDirection())
	}
	if err != nil {
		return nil, err
	}
	if err := s.engine.Heartbeat(ctx, c.saga, c.step, c.direction); err != nil {
		return nil, err
	}
	return &treatyv1.HeartbeatStepResponse{}, nil
}
