package drift

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// Kind is what a method is to a saga.
type Kind string

// The kinds of methods.
const (
	Compensatable Kind = "compensatable"
	Pivot         Kind = "pivot"
	Retriable     Kind = "retriable"
	Query         Kind = "query"
	Compensation  Kind = "compensation"
)

// NoCommand is the kind of a method that isn't a command.
const NoCommand Kind = "no command"

// Valid reports whether it is one of the kinds.
func (k Kind) Valid() bool {
	switch k {
	case Compensatable, Pivot, Retriable, Query, Compensation:
		return true
	default:
		return false
	}
}

// CommandOf returns the annotation of a command, or nil for any other method.
func CommandOf(method protoreflect.MethodDescriptor) *treatyv1.Command {
	options := method.Options()
	if !proto.HasExtension(options, treatyv1.E_Command) {
		return nil
	}
	command, _ := proto.GetExtension(options, treatyv1.E_Command).(*treatyv1.Command)
	return command
}

// KindOf returns the kind of a method, which is NoCommand if it isn't a command.
func KindOf(method protoreflect.MethodDescriptor) Kind {
	switch CommandOf(method).GetKind().(type) {
	case *treatyv1.Command_CompensatedBy:
		return Compensatable
	case *treatyv1.Command_Pivot:
		return Pivot
	case *treatyv1.Command_Retriable:
		return Retriable
	case *treatyv1.Command_Query:
		return Query
	default:
		return NoCommand
	}
}

// Rejections returns the full names of the rejections that a method declares.
func Rejections(method protoreflect.MethodDescriptor) []protoreflect.FullName {
	var names []protoreflect.FullName
	for _, name := range CommandOf(method).GetRejections() {
		names = append(names, protoreflect.FullName(name))
	}
	return names
}

// MethodName returns the name of a method, e.g. "acme.card.v1.CardService/IssueCard".
func MethodName(method protoreflect.MethodDescriptor) string {
	return string(method.Parent().FullName()) + "/" + string(method.Name())
}
