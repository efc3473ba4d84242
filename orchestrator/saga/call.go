package saga

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Call asks for a step and waits until it has ended; out takes the reply. It is what generated functions are made of: call
// those. Fullmethod is the method's name with its leading slash, as gRPC's generated constants have it.
//
// The error is an *Error when the step was refused, or when the orchestrator gave up on it. A failure that another attempt may mend
// never comes back here.
func Call(ctx Context, fullMethod string, in, out proto.Message) error {
	return call(ctx.thread().machine, &machine.Call{Method: strings.TrimPrefix(fullMethod, "/")}, in, out)
}

func call(t *machine.Thread, c *machine.Call, in, out proto.Message) error {
	var err error
	if c.Request, err = deterministic.Marshal(in); err != nil {
		return fmt.Errorf("serializing the request of %s: %w", c.Method, err)
	}
	if t.Replaying() {
		c.Same = func(journaled []byte) bool {
			other := in.ProtoReflect().New().Interface()
			return proto.Unmarshal(journaled, other) == nil && proto.Equal(in, other)
		}
	}
	result := t.Call(c)
	if result.Failure != nil {
		return &Error{Method: c.Method, Unknown: result.Unknown, failure: result.Failure}
	}
	if err := proto.Unmarshal(result.Reply, out); err != nil {
		return fmt.Errorf("reading the reply of %s, which isn't a %s: %w", c.Method, out.ProtoReflect().Descriptor().FullName(), err)
	}
	return nil
}

var deterministic = proto.MarshalOptions{Deterministic: true}

// failureOf is the failure that a saga ends with: the status in the error, wherever it is wrapped, with its details; ABORTED for an error
// without one.
func failureOf(err error) *treatyv1.Failure {
	st, ok := status.FromError(err)
	if !ok || st.Code() == codes.OK {
		return &treatyv1.Failure{Code: int32(codes.Aborted), Message: valid(err.Error())}
	}
	return &treatyv1.Failure{Code: int32(st.Code()), Message: valid(st.Message()), Details: st.Proto().GetDetails()}
}

// valid makes a text one that a journal can hold: protobuf takes no other.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
