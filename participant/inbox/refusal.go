package inbox

import (
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

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
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	options := found.Options()
	if direction == participant.Compensation {
		if c, ok := proto.GetExtension(options, treatyv1.E_Compensation).(*treatyv1.Compensation); ok {
			return c.GetOutcomes()
		}
		return nil
	}
	if c, ok := proto.GetExtension(options, treatyv1.E_Command).(*treatyv1.Command); ok {
		return c.GetOutcomes()
	}
	return nil
}
