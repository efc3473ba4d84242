package conform

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// ErrNoCommand is wrapped by the error of a case whose method has no contract, as far as its descriptor says.
var ErrNoCommand = errors.New("isn't a command")

// command is a method with a contract.
type command struct {
	method   protoreflect.MethodDescriptor
	contract *treatyv1.Command

	// undo is the compensation, or nil. action and reply are the fields of its request, or nil if it has none.
	undo          protoreflect.MethodDescriptor
	action, reply protoreflect.FieldDescriptor
}

// Contract returns the command that a method describes, or nil if it describes none. The descriptor may come from
// server reflection.
func Contract(method protoreflect.MethodDescriptor) *treatyv1.Command {
	return options(method).contract
}

// IsSaga reports whether a method starts a saga. An orchestrator serves it.
func IsSaga(method protoreflect.MethodDescriptor) bool { return options(method).saga }

// annotations are what the options of a method say.
type annotations struct {
	contract *treatyv1.Command
	saga     bool
	outcomes []*treatyv1.OutcomeOverride
}

func options(method protoreflect.MethodDescriptor) annotations {
	// The options of a method from server reflection hold the annotations as unknown fields, or as dynamic messages.
	raw, err := proto.Marshal(method.Options())
	if err != nil {
		return annotations{}
	}
	known := new(descriptorpb.MethodOptions)
	if err := proto.Unmarshal(raw, known); err != nil {
		return annotations{}
	}
	contract, _ := proto.GetExtension(known, treatyv1.E_Command).(*treatyv1.Command)
	undo, _ := proto.GetExtension(known, treatyv1.E_Compensation).(*treatyv1.Compensation)
	return annotations{
		contract: contract, saga: proto.HasExtension(known, treatyv1.E_Saga),
		outcomes: slices.Concat(contract.GetOutcomes(), undo.GetOutcomes()),
	}
}

// Name returns a method's name, "package.Service/Method".
func Name(method protoreflect.MethodDescriptor) string {
	return string(method.Parent().FullName()) + "/" + string(method.Name())
}

// commandOf reads a command and its compensation.
func commandOf(method protoreflect.MethodDescriptor) (*command, error) {
	c := &command{method: method, contract: Contract(method)}
	if c.contract == nil {
		return nil, fmt.Errorf("%s %w: its contract has no option (treaty.v1.command)", Name(method), ErrNoCommand)
	}
	name := c.contract.GetCompensatedBy()
	if name == "" {
		return c, nil
	}
	service, _ := method.Parent().(protoreflect.ServiceDescriptor)
	if c.undo = service.Methods().ByName(protoreflect.Name(name)); c.undo == nil {
		return nil, fmt.Errorf("%s is compensated by %s, which %s doesn't have", Name(method), name, service.FullName())
	}
	fields := c.undo.Input().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Message() == nil || field.IsList() || field.IsMap() {
			continue
		}
		switch field.Message().FullName() {
		case method.Input().FullName():
			c.action = field
		case method.Output().FullName():
			c.reply = field
		}
	}
	return c, nil
}

// undoRequest is the request of the compensation. reply may be nil: the orchestrator never received it.
func (c *command) undoRequest(request, reply proto.Message) (proto.Message, error) {
	made := dynamicpb.NewMessage(c.undo.Input())
	for field, from := range map[protoreflect.FieldDescriptor]proto.Message{c.action: request, c.reply: reply} {
		if field == nil || from == nil {
			continue
		}
		raw, err := proto.Marshal(from)
		if err != nil {
			return nil, err
		}
		part := made.NewField(field)
		if err := proto.Unmarshal(raw, part.Message().Interface()); err != nil {
			return nil, err
		}
		made.Set(field, part)
	}
	return made, nil
}

// kind is the command's kind as the contract has it.
func (c *command) kind() string {
	switch c.contract.GetKind().(type) {
	case *treatyv1.Command_CompensatedBy:
		return "compensatable"
	case *treatyv1.Command_Pivot:
		return "pivot"
	case *treatyv1.Command_Retriable:
		return "retriable"
	case *treatyv1.Command_Query:
		return "query"
	default:
		return "of no kind"
	}
}

func (c *command) query() bool { return c.contract.GetQuery() != nil }
