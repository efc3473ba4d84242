package saga

import (
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
)

// Answer is the reply of one participant to a broadcast.
type Answer[T proto.Message] struct {
	// Participant names it: the first service that it is configured with.
	Participant string

	// Reply is what it replied.
	Reply T
}

// Broadcast sends a command to every participant that serves it, side by side, and returns their replies by the names of the
// participants. Who they are is journaled before anything is sent. As in All, the error is that of the first that failed, and the replies
// are those of who had done it by then; when nobody serves the command, it is an *Error with the code FAILED_PRECONDITION. It is
// what generated functions are made of: call those.
func Broadcast[T proto.Message](ctx Context, fullMethod string, in proto.Message) ([]Answer[T], error) {
	t, method := ctx.thread(), strings.TrimPrefix(fullMethod, "/")
	replies, errs := make(map[string]T), make(map[string]error)
	names, result := t.machine.Broadcast(&machine.Broadcast{Method: method}, func(participant string, child *machine.Thread) *treatyv1.Failure {
		var none T
		reply := none.ProtoReflect().New().Interface()
		if err := call(child, &machine.Call{Method: method, Participant: participant}, in, reply); err != nil {
			errs[participant] = fmt.Errorf("at %s: %w", participant, err)
			return failureOf(err)
		}
		replies[participant] = reply.(T) //nolint:forcetypeassert // it was made from T's own type
		return nil
	})
	var answers []Answer[T]
	for _, name := range names {
		if reply, done := replies[name]; done {
			answers = append(answers, Answer[T]{Participant: name, Reply: reply})
		}
	}
	switch {
	case len(names) == 0:
		return nil, &Error{Method: method, failure: &treatyv1.Failure{
			Code: int32(codes.FailedPrecondition), Message: "no configured participant serves it; start the orchestrator with one that does",
		}}
	case result.Failed >= 0:
		return answers, errs[names[result.Failed]]
	}
	return answers, nil
}
