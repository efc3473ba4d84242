package server

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

// maxPathFields limits how many fields a path of a mask has, as the nesting of messages is limited.
const maxPathFields = 100

// editedRequest returns the derived request of a step's compensation, in which the fields of a mask have the values
// that they have in the given request. So a person can correct a request some of whose fields they can't see.
func (s *Server) editedRequest(
	step *treatyv1.Step, input protoreflect.MessageDescriptor, edited *treatyv1.ResumeSagaRequest_RetryEdited,
) ([]byte, error) {
	compensation, known := s.catalog.Compensation(step.GetCompensationMethod())
	if !known {
		return nil, fmt.Errorf("the catalog has no compensation %s", step.GetCompensationMethod())
	}
	var reply []byte
	if step.GetReply() != nil {
		reply = nonNil(step.GetReply().GetValue())
	}
	derived := contract.CompensationRequest(compensation.Plan(), step.GetRequest().GetValue(), reply)
	request, given := untrusted.MessageType(input).New(), untrusted.MessageType(input).New()
	if err := untrusted.Unmarshal(derived, request.Interface()); err != nil {
		return nil, fmt.Errorf("reading the derived request of %s: %w", step.GetCompensationMethod(), err)
	}
	if err := untrusted.Unmarshal(edited.GetRequest().GetValue(), given.Interface()); err != nil {
		return nil, invalid("retry_edited.request", "can't be read: %s", untrusted.Reason(err))
	}
	for _, path := range edited.GetUpdateMask().GetPaths() {
		names := strings.Split(path, ".")
		if len(names) > maxPathFields || !replaceField(request, given, names) {
			return nil, invalid("retry_edited.update_mask", "has %q, which isn't a field of %s: write the names of "+
				"fields as in the contract, joined by dots; a repeated field or a map is replaced as a whole",
				untrusted.Shorten(path), input.FullName())
		}
	}
	data, err := proto.Marshal(request.Interface())
	switch {
	case err != nil:
		return nil, fmt.Errorf("serializing the request of %s: %w", step.GetCompensationMethod(), err)
	case len(data) > machine.MaxPayloadBytes:
		return nil, invalid("retry_edited.request", "makes a request of %d bytes; at most %d are allowed", len(data),
			machine.MaxPayloadBytes)
	}
	return nonNil(data), nil
}

// replaceField replaces the field at a path in one message by that in another message of the same type. It returns
// false if there is no such field.
func replaceField(to, from protoreflect.Message, path []string) bool {
	field := to.Descriptor().Fields().ByName(protoreflect.Name(path[0]))
	switch {
	case field == nil:
		return false
	case len(path) > 1:
		return field.Message() != nil && field.Cardinality() != protoreflect.Repeated &&
			replaceField(to.Mutable(field).Message(), from.Get(field).Message(), path[1:])
	case from.Has(field):
		to.Set(field, from.Get(field))
	default:
		to.Clear(field)
	}
	return true
}
