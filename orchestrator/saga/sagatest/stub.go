package sagatest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/orchestrator/contract"
)

// Stub makes a function execute the commands of a method, an action or a compensation, in the place of the plausible
// reply. The method is named as the generated constants name it. The function is called once for each command. If it
// returns an error, the code says what that means: FAILED_PRECONDITION and others refuse the command, and UNAVAILABLE
// and others have it sent again. The test fails if no linked contract has such a method, or if it has other messages.
func Stub[In, Out proto.Message](w *World, method string, execute func(ctx context.Context, in In) (Out, error)) {
	w.t.Helper()
	call, err := w.callOf(method)
	if err != nil {
		w.t.Fatal(err)
	}
	var in In
	var out Out
	for _, m := range []struct {
		what string
		got  protoreflect.MessageDescriptor
		want protoreflect.MessageDescriptor
	}{
		{"takes", in.ProtoReflect().Descriptor(), call.Input},
		{"returns", out.ProtoReflect().Descriptor(), call.Output},
	} {
		if m.got.FullName() != m.want.FullName() {
			w.t.Fatalf("the stub of %s %s a %s, not a %s", call.Method, m.what, m.got.FullName(), m.want.FullName())
		}
	}
	w.handle(call.Method, func(ctx context.Context, request proto.Message) (proto.Message, error) {
		return execute(ctx, request.(In))
	})
}

func (w *World) handle(method string, h handler) {
	w.participants.mu.Lock()
	defer w.participants.mu.Unlock()
	w.participants.handlers[method] = h
}

// callOf returns how to call a method of a linked contract. Its error names those of the same service.
func (w *World) callOf(method string) (*contract.CallConfig, error) {
	name := strings.TrimPrefix(method, "/")
	if call, ok := w.catalog.CallConfig(name); ok {
		return call, nil
	}
	service, _, _ := strings.Cut(name, "/")
	var there []string
	for command := range w.catalog.Commands() {
		if strings.HasPrefix(command.Method, service+"/") {
			there = append(there, command.Method)
		}
	}
	for compensation := range w.catalog.Compensations() {
		if strings.HasPrefix(compensation.Method, service+"/") {
			there = append(there, compensation.Method)
		}
	}
	slices.Sort(there)
	if len(there) == 0 {
		return nil, fmt.Errorf("no linked contract has a command or compensation %s, nor any other of its service; "+
			"use the generated constant of the method", name)
	}
	return nil, fmt.Errorf("no linked contract has a command or compensation %s; its service has %s", name,
		strings.Join(there, ", "))
}

// Script sets the answers to the next attempts of a method, an action or a compensation, one answer for each attempt.
// After them, the method answers as before. The test fails if no linked contract has such a method, or if the method
// can't answer so: with another reply, or with a rejection that its contract doesn't declare.
func (w *World) Script(method string, answers ...Answer) {
	w.t.Helper()
	call, err := w.callOf(method)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, answer := range answers {
		if err := w.checkAnswer(call, answer); err != nil {
			w.t.Fatalf("answer %d in the script of %s: %v", i+1, call.Method, err)
		}
	}
	w.participants.mu.Lock()
	defer w.participants.mu.Unlock()
	w.participants.scripts[call.Method] = append(w.participants.scripts[call.Method], answers...)
}

// Serve makes the implementations of services execute their commands: register passes them to the generated Register
// functions. They are called as by a server of the participant's library, but each command once: use package
// participanttest to test what they do with repeated ones.
func (w *World) Serve(register func(grpc.ServiceRegistrar)) {
	register(services{w})
}

// TakePart says which participants take part in the broadcasts of a service, by their names. By default, there is one,
// with the name of the service.
func (w *World) TakePart(service string, names ...string) {
	w.participants.mu.Lock()
	defer w.participants.mu.Unlock()
	names = slices.Clone(names)
	slices.Sort(names)
	w.participants.parts[service] = names
}

// services makes handlers of implementations.
type services struct{ world *World }

// RegisterService takes an implementation of a service.
func (s services) RegisterService(service *grpc.ServiceDesc, implementation any) {
	for _, method := range service.Methods {
		s.world.handle(service.ServiceName+"/"+method.MethodName,
			func(ctx context.Context, request proto.Message) (proto.Message, error) {
				reply, err := method.Handler(implementation, ctx, func(in any) error {
					proto.Merge(in.(proto.Message), request)
					return nil
				}, nil)
				if err != nil {
					return nil, err
				}
				return reply.(proto.Message), nil
			})
	}
}
