package saga

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
	"github.com/treatyhq/treaty/orchestrator/internal/machine"
	"github.com/treatyhq/treaty/orchestrator/internal/sagacode"
)

// Definition is a saga definition with its code. [Register] makes one; code that implements [Registrar] only passes it
// on.
type Definition struct {
	// Name is the definition's name, e.g. "acme.card.v1.CardSagas/IssueCard".
	Name string

	code machine.Code
}

func init() { //nolint:gochecknoinits // the orchestrator reads a field that users can't see
	sagacode.Of = func(definition any) machine.Code {
		d, _ := definition.(Definition)
		return d.code
	}
}

// Registrar takes saga definitions. An orchestrator.Orchestrator is one.
type Registrar interface {
	// RegisterSaga adds a definition. An orchestrator reports a definition that was registered twice, or that no linked
	// contract has, when it starts to serve.
	RegisterSaga(Definition)
}

// Register adds the code of a saga definition to a registrar. It is for generated code: call the generated Register
// function of the saga service. Parameter fullMethod is a gRPC method name with its leading slash.
func Register[In, Out proto.Message](r Registrar, fullMethod string, code func(Context, In) (Out, error)) {
	a := adapter[In, Out]{name: strings.TrimPrefix(fullMethod, "/"), code: code}
	r.RegisterSaga(Definition{Name: a.name, code: a.run})
}

// adapter adapts typed saga code to a machine.Code.
type adapter[In, Out proto.Message] struct {
	name string
	code func(Context, In) (Out, error)
}

func (a adapter[In, Out]) run(t *machine.Thread, request []byte) ([]byte, *treatyv1.Failure) {
	var zero In
	in := zero.ProtoReflect().New().Interface().(In) //nolint:forcetypeassert // made from In's own type
	if err := proto.Unmarshal(request, in); err != nil {
		return nil, &treatyv1.Failure{
			Code: int32(codes.InvalidArgument), Message: fmt.Sprintf("reading the request of %s: %v", a.name, err),
		}
	}
	out, err := a.code(&thread{machine: t, input: in.ProtoReflect().Descriptor().FullName()}, in)
	if restart, ok := errors.AsType[*restartError](err); ok {
		if t.Use() == nil {
			t.Restart(restart.request)
			t.Release()
		}
		return nil, nil
	}
	if err != nil {
		return nil, failureOf(err)
	}
	if isNil(out) {
		t.Break("its code returned neither a reply nor an error; return a reply, even if it is empty, or an error")
	}
	reply, err := deterministic.Marshal(out)
	if err != nil {
		return nil, failureOf(fmt.Errorf("serializing the reply of %s: %w", a.name, err))
	}
	if reply == nil {
		reply = []byte{}
	}
	return reply, nil
}
