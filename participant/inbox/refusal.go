package inbox

import (
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/participant"
)

// refuses reports whether a handler's error certainly refuses the command. The method's contract decides, or the
// default if the contract doesn't mention the error's code.
func refuses(method string, direction participant.Direction, err error) bool {
	c := statusOf(err).Code()
	for _, o := range outcomes(method, direction) {
		if number, ok := code.Code_value[o.GetCode()]; ok && codes.Code(number) == c {
			return o.GetOutcome() == treatyv1.Outcome_OUTCOME_REFUSED
		}
	}
	return participant.IsRefusal(c)
}

// outcomes returns the outcomes in the method's contract, or nil if the method's descriptor isn't linked into the
// program.
func outcomes(method string, direction participant.Direction) []*treatyv1.OutcomeOverride {
	if direction == participant.Compensation {
		c, _ := proto.GetExtension(optionsOf(method), treatyv1.E_Compensation).(*treatyv1.Compensation)
		return c.GetOutcomes()
	}
	return contractOf(method).GetOutcomes()
}

// contractOf returns the contract of a command, or nil if the method has none or its descriptor isn't linked into the
// program.
func contractOf(method string) *treatyv1.Command {
	command, _ := proto.GetExtension(optionsOf(method), treatyv1.E_Command).(*treatyv1.Command)
	return command
}

// optionsOf returns the options of a method, or those of no method.
func optionsOf(method string) proto.Message {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if _, is := found.(protoreflect.MethodDescriptor); err != nil || !is {
		return (*descriptorpb.MethodOptions)(nil)
	}
	return found.Options()
}
