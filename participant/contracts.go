package participant

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// contracts finds the contracts of methods.
type contracts struct{ known sync.Map }

// of returns the contract of a command, or nil if the method has none or its descriptor isn't linked into the program.
func (c *contracts) of(method string) *treatyv1.Command {
	if command, known := c.known.Load(method); known {
		return command.(*treatyv1.Command) //nolint:forcetypeassert // only this method stores
	}
	command := contractOf(method)
	c.known.Store(method, command)
	return command
}

func contractOf(method string) *treatyv1.Command {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if _, is := found.(protoreflect.MethodDescriptor); err != nil || !is {
		return nil
	}
	command, _ := proto.GetExtension(found.Options(), treatyv1.E_Command).(*treatyv1.Command)
	return command
}
