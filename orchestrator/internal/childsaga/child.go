package childsaga

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/engine"
	"github.com/treatyhq/treaty/orchestrator/internal/sagarequest"
)

// StartParams returns how the child that a command starts is started, apart from the trace. The child's id is derived
// from the command id, so every attempt finds the same child. The error is a *sagarequest.Error.
func StartParams(
	definition *contract.SagaDefinition, parent *treatyv1.Parent, request []byte,
) (engine.StartParams, error) {
	start, err := sagarequest.NewReader(definition).ReadChild(request)
	if err != nil {
		return engine.StartParams{}, err
	}
	return engine.StartParams{
		Definition: definition.Definition, Request: request,
		SagaID: engine.ChildID(definition.Definition, parent.GetCommandId()),
		Labels: start.Labels, Deadline: definition.Deadline, Parent: parent,
	}, nil
}

// CloseParams returns which child a command would have started that its parent closes. Its request isn't known.
func CloseParams(definition *contract.SagaDefinition, parent *treatyv1.Parent) engine.StartParams {
	parent.Closed = true
	return engine.StartParams{
		Definition: definition.Definition, SagaID: engine.ChildID(definition.Definition, parent.GetCommandId()),
		Parent: parent,
	}
}

// Refusal returns the status of a child that was compensated, as its parent receives it. Everything that the child did
// is compensated, so its code must mean "refused": a status with another code becomes the detail of one that means
// that.
func Refusal(failure *treatyv1.Failure) *treatyv1.Failure {
	code := codes.Code(uint32(failure.GetCode()))
	if contract.OutcomeOf(nil, code) == treatyv1.Outcome_OUTCOME_REFUSED {
		return failure
	}
	refusal := &treatyv1.Failure{
		Code:    int32(codes.FailedPrecondition),
		Message: fmt.Sprintf("the child saga was compensated: %s: %s", code, failure.GetMessage()),
		Details: failure.GetDetails(),
	}
	if detail, err := anypb.New(&treatyv1.Failure{Code: failure.GetCode(), Message: failure.GetMessage()}); err == nil {
		refusal.Details = append(refusal.Details, detail)
	}
	return refusal
}

// ActionRequest returns the request that started a child, from the request of its compensation. It is empty when the
// field is missing.
func ActionRequest(compensation *contract.Compensation, request []byte) ([]byte, error) {
	action, _, err := field(request, compensation.ActionField)
	return action, err
}

// HasReply returns whether the request of a compensation holds the reply of the child.
func HasReply(compensation *contract.Compensation, request []byte) (bool, error) {
	_, found, err := field(request, compensation.ReplyField)
	return found, err
}

// field returns a message in a field of another one, and whether it is there.
func field(message []byte, wanted protowire.Number) (value []byte, found bool, err error) {
	value = []byte{}
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, false, protowire.ParseError(n)
		}
		message = message[n:]
		if number == wanted && kind == protowire.BytesType {
			part, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return nil, false, protowire.ParseError(n)
			}
			value, message, found = append(value, part...), message[n:], true // a message may come in several parts
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return nil, false, protowire.ParseError(n)
		}
		message = message[n:]
	}
	return value, found, nil
}
