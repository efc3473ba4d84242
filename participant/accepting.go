package participant

import (
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// acceptingMethods finds the methods whose contracts allow to accept a command and complete it later.
type acceptingMethods struct{ known sync.Map }

// can reports whether a method's contract sets complete_within. It is false if the method's descriptor isn't linked
// into the program.
func (a *acceptingMethods) can(method string) bool {
	if can, known := a.known.Load(method); known {
		return can.(bool) //nolint:forcetypeassert // only this method stores
	}
	can := completesLater(method)
	a.known.Store(method, can)
	return can
}

func completesLater(method string) bool {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", "."))
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return false
	}
	command, _ := proto.GetExtension(found.Options(), treatyv1.E_Command).(*treatyv1.Command)
	return command.GetCompleteWithin() != nil
}
