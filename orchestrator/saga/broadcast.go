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
	// Participant is the name of the participant: the first service in its configuration at the orchestrator.
	Participant string

	// Reply is the participant's reply.
	Reply T
}

// Broadcast sends a command to every participant that takes part in it, in parallel. It returns the replies, ordered by
// the names of the participants. It is for generated code: call the generated function of the command. Parameter
// fullMethod is a gRPC method name with its leading slash.
//
// The orchestrator records the participants before it sends anything, so a recovered saga sends to the same ones. While
// its configuration names none, the saga waits. As in [All], the error is that of the participant that failed first;
// the replies are then those that arrived before. When a test of saga code, or a journal of an earlier version, names
// no participant, the error is an [*Error] with the code FAILED_PRECONDITION.
func Broadcast[T proto.Message](ctx Context, fullMethod string, in proto.Message) ([]Answer[T], error) {
	t, err := tryEnter(ctx)
	if err != nil {
		return nil, err
	}
	defer t.leave()
	method := strings.TrimPrefix(fullMethod, "/")
	replies, errs := make(map[string]T), make(map[string]error)
	send := func(participant string, child *machine.Thread) *treatyv1.Failure {
		var none T
		reply := none.ProtoReflect().New().Interface()
		if err := child.Use(); err != nil {
			return failureOf(err)
		}
		defer child.Release()
		if err := call(child, &machine.Call{Method: method, Participant: participant}, in, reply); err != nil {
			errs[participant] = fmt.Errorf("at %s: %w", participant, err)
			return failureOf(err)
		}
		replies[participant] = reply.(T) //nolint:forcetypeassert // made from T's own type
		return nil
	}
	names, result := t.machine.Broadcast(&machine.Broadcast{Method: method}, send)
	var answers []Answer[T]
	for _, name := range names {
		if reply, done := replies[name]; done {
			answers = append(answers, Answer[T]{Participant: name, Reply: reply})
		}
	}
	switch {
	case len(names) == 0:
		return nil, &Error{Method: method, failure: &treatyv1.Failure{
			Code:    int32(codes.FailedPrecondition),
			Message: "no configured participant serves it; start the orchestrator with one that does",
		}}
	case result.Failed >= 0:
		return answers, errs[names[result.Failed]]
	}
	return answers, nil
}
