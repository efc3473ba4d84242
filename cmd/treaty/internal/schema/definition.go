package schema

import (
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Definition is a saga definition that the orchestrator serves.
type Definition struct {
	// Name is the full name of the method that starts the saga, e.g. "acme.card.v1.CardSagas/IssueCard".
	Name string

	// Method is that method.
	Method protoreflect.MethodDescriptor

	// Kind is the kind of the command that a saga is to its parent, or unspecified if it can't have one.
	Kind treatyv1.CommandKind

	// Deadline is how long a saga may run; 0 means no limit.
	Deadline time.Duration

	// Retention is how long a saga is kept after its end; 0 means as long as the orchestrator's configuration says.
	Retention time.Duration
}

// Definitions returns the saga definitions that the orchestrator serves, sorted by name. The error wraps a gRPC status.
func (s *Schema) Definitions() ([]Definition, error) {
	services, err := s.Services()
	if err != nil {
		return nil, err
	}
	var out []Definition
	for _, name := range services {
		found, err := s.FindDescriptorByName(name)
		if status.Code(err) == codes.NotFound {
			continue // served without a descriptor
		}
		if err != nil {
			return nil, err
		}
		service, ok := found.(protoreflect.ServiceDescriptor)
		if !ok {
			continue
		}
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			options := sagaOptions(method)
			if options == nil {
				continue
			}
			out = append(out, Definition{
				Name:      methodName(method),
				Method:    method,
				Kind:      kindOf(method),
				Deadline:  options.GetDeadline().AsDuration(),
				Retention: options.GetRetention().AsDuration(),
			})
		}
	}
	slices.SortFunc(out, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// StartsSaga reports whether a method is a saga definition.
func StartsSaga(method protoreflect.MethodDescriptor) bool { return sagaOptions(method) != nil }

// IsEvent reports whether a message is an event.
func IsEvent(message protoreflect.MessageDescriptor) bool {
	return proto.HasExtension(message.Options(), treatyv1.E_Event)
}

// sagaOptions returns the options of a saga definition, or nil for any other method.
func sagaOptions(method protoreflect.MethodDescriptor) *treatyv1.SagaOptions {
	options := method.Options()
	if !proto.HasExtension(options, treatyv1.E_Saga) {
		return nil
	}
	saga, _ := proto.GetExtension(options, treatyv1.E_Saga).(*treatyv1.SagaOptions)
	return saga
}

// kindOf returns the kind of the command that a saga is to its parent, or unspecified if it can't have one.
func kindOf(method protoreflect.MethodDescriptor) treatyv1.CommandKind {
	command, _ := proto.GetExtension(method.Options(), treatyv1.E_Command).(*treatyv1.Command)
	switch command.GetKind().(type) {
	case *treatyv1.Command_CompensatedBy:
		return treatyv1.CommandKind_COMMAND_KIND_COMPENSATABLE
	case *treatyv1.Command_Pivot:
		return treatyv1.CommandKind_COMMAND_KIND_PIVOT
	case *treatyv1.Command_Retriable:
		return treatyv1.CommandKind_COMMAND_KIND_RETRIABLE
	case *treatyv1.Command_Query:
		return treatyv1.CommandKind_COMMAND_KIND_QUERY
	default:
		return treatyv1.CommandKind_COMMAND_KIND_UNSPECIFIED
	}
}

// RequestIDField returns the field that makes a start idempotent, or nil if the message has none.
func RequestIDField(message protoreflect.MessageDescriptor) protoreflect.FieldDescriptor {
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		marked, _ := proto.GetExtension(field.Options(), treatyv1.E_RequestId).(bool)
		if marked && field.Kind() == protoreflect.StringKind && !field.IsList() {
			return field
		}
	}
	return nil
}

// LabelFields returns the names of the fields that become labels, for searching sagas.
func LabelFields(message protoreflect.MessageDescriptor) []string {
	var names []string
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if marked, _ := proto.GetExtension(field.Options(), treatyv1.E_Label).(bool); marked {
			names = append(names, string(field.Name()))
		}
	}
	return names
}

func methodName(method protoreflect.MethodDescriptor) string {
	return string(method.Parent().FullName()) + "/" + string(method.Name())
}
