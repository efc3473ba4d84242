package saga

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Call sends a command and waits until its step has ended. It reads the reply into out. It is for generated code: call
// the generated function of the command. Parameter fullMethod is a gRPC method name with its leading slash.
//
// The error is an [*Error] when the participant refused the command or the orchestrator gave up. A failure that another
// attempt may overcome is retried and never returned.
func Call(ctx Context, fullMethod string, in, out proto.Message) error {
	t, method := ctx.thread().machine, strings.TrimPrefix(fullMethod, "/")
	if err := t.Use(); err != nil {
		return fmt.Errorf("%s: sending %s: %w", ctx.Saga(), method, err)
	}
	defer t.Release()
	return call(t, &machine.Call{Method: method}, in, out)
}

func call(t *machine.Thread, c *machine.Call, in, out proto.Message) error {
	var err error
	if c.NilRequest = isNil(in); !c.NilRequest {
		c.RequestType = in.ProtoReflect().Descriptor().FullName()
	}
	c.ReplyType = out.ProtoReflect().Descriptor().FullName()
	if c.Request, err = deterministic.Marshal(in); err != nil {
		return fmt.Errorf("serializing the request of %s: %w", c.Method, err)
	}
	if t.Replaying() {
		c.Differs = func(journaled []byte) (path string, differs bool) {
			other := in.ProtoReflect().New().Interface()
			if proto.Unmarshal(journaled, other) != nil {
				return "", true
			}
			return difference(other.ProtoReflect(), in.ProtoReflect()), !proto.Equal(other, in)
		}
	}
	result := t.Call(c)
	if result.Failure != nil {
		return &Error{Method: c.Method, Unknown: result.Unknown, failure: result.Failure}
	}
	if err := proto.Unmarshal(result.Reply, out); err != nil {
		wanted := out.ProtoReflect().Descriptor().FullName()
		return fmt.Errorf("reading the reply of %s, which isn't a %s: %w", c.Method, wanted, err)
	}
	return nil
}

// isNil reports whether a message is nil, or a nil pointer.
func isNil(m proto.Message) bool { return m == nil || !m.ProtoReflect().IsValid() }

// deterministic serializes the same message to the same bytes within one build, so that most replays compare bytes
// only.
var deterministic = proto.MarshalOptions{Deterministic: true}
