package contracts

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/treatyhq/treaty/internal/drift"
)

// Use says that a saga calls a method.
type Use struct {
	// Saga is the saga definition, e.g. "acme.card.v1.CardSagas/IssueCard".
	Saga string

	// Method is the method that it calls.
	Method protoreflect.MethodDescriptor

	// Handles are the messages that the code of the saga looks for in refusals, of whichever command. Those that the
	// method doesn't declare have no effect on it.
	Handles []protoreflect.FullName
}

// New describes what sagas expect of the methods that they call, of the compensations of those, and of all messages
// that can be reached from them.
//
// The error names a method that isn't a command, or a compensation or rejection that its file and the imports of that
// don't have.
func New(uses []Use) (*File, error) {
	f := &File{
		Version:  version,
		Services: make(map[protoreflect.FullName]map[protoreflect.Name]*Method),
		Messages: make(map[protoreflect.FullName]map[protoreflect.FieldNumber]drift.Field),
		Enums:    make(map[protoreflect.FullName]map[protoreflect.Name]protoreflect.EnumNumber),
	}
	for _, use := range uses {
		kind := drift.KindOf(use.Method)
		if kind == drift.NoCommand {
			return nil, fmt.Errorf("%s isn't a command: annotate it with (treaty.v1.command)",
				drift.MethodName(use.Method))
		}
		method := f.method(use.Method, kind, use.Saga)
		for _, name := range drift.Rejections(use.Method) {
			if !slices.Contains(use.Handles, name) {
				addSorted(&method.Ignores, name)
				continue
			}
			rejection := findMessage(use.Method.ParentFile(), name)
			if rejection == nil {
				return nil, fmt.Errorf("the rejection %s of %s is unknown: generate the code again", name,
					drift.MethodName(use.Method))
			}
			addSorted(&method.Handles, name)
			f.message(rejection)
		}
		// What one saga handles and another one doesn't is handled.
		method.Ignores = slices.DeleteFunc(method.Ignores, func(name protoreflect.FullName) bool {
			return slices.Contains(method.Handles, name)
		})
		if kind != drift.Compensatable {
			continue
		}
		name := protoreflect.Name(drift.CommandOf(use.Method).GetCompensatedBy())
		service, _ := use.Method.Parent().(protoreflect.ServiceDescriptor)
		compensation := service.Methods().ByName(name)
		if compensation == nil {
			return nil, fmt.Errorf("the compensation %s of %s is unknown: generate the code again", name,
				drift.MethodName(use.Method))
		}
		method.CompensatedBy = name
		f.method(compensation, drift.Compensation, use.Saga)
	}
	return f, nil
}

// method adds a method, or a saga that calls it.
func (f *File) method(method protoreflect.MethodDescriptor, kind drift.Kind, saga string) *Method {
	service := method.Parent().FullName()
	if f.Services[service] == nil {
		f.Services[service] = make(map[protoreflect.Name]*Method)
	}
	out := f.Services[service][method.Name()]
	if out == nil {
		out = &Method{Request: method.Input().FullName(), Reply: method.Output().FullName(), Kind: kind}
		f.Services[service][method.Name()] = out
		f.message(method.Input())
		f.message(method.Output())
	}
	addSorted(&out.Sagas, saga)
	return out
}

// message adds a message and what can be reached from it.
func (f *File) message(message protoreflect.MessageDescriptor) {
	name := message.FullName()
	if f.Messages[name] != nil || wellKnown(name) {
		return
	}
	fields := make(map[protoreflect.FieldNumber]drift.Field)
	f.Messages[name] = fields
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		fields[field.Number()] = drift.FieldOf(field)
		value := valueOf(field)
		if value.Message() != nil {
			f.message(value.Message())
		}
		if enum := value.Enum(); enum != nil && !wellKnown(enum.FullName()) {
			values := make(map[protoreflect.Name]protoreflect.EnumNumber)
			for i := range enum.Values().Len() {
				values[enum.Values().Get(i).Name()] = enum.Values().Get(i).Number()
			}
			f.Enums[enum.FullName()] = values
		}
	}
}

// valueOf returns the field that holds the values of a map, and any other field itself.
func valueOf(field protoreflect.FieldDescriptor) protoreflect.FieldDescriptor {
	if field.IsMap() {
		return field.MapValue()
	}
	return field
}

// findMessage finds a message in a file and its direct and indirect imports, or returns nil.
func findMessage(file protoreflect.FileDescriptor, name protoreflect.FullName) protoreflect.MessageDescriptor {
	seen := new(protoregistry.Files)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if _, err := seen.FindFileByPath(file.Path()); err == nil || file.IsPlaceholder() {
			return
		}
		// Registering can't fail: files that import each other don't clash.
		_ = seen.RegisterFile(file)
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
	}
	add(file)
	found, err := seen.FindDescriptorByName(name)
	if err != nil {
		return nil
	}
	message, _ := found.(protoreflect.MessageDescriptor)
	return message
}

// addSorted adds a value to a sorted slice, unless it is there.
func addSorted[T ~string](to *[]T, value T) {
	if i, found := slices.BinarySearch(*to, value); !found {
		*to = slices.Insert(*to, i, value)
	}
}
