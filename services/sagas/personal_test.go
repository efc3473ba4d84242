package main

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// TestContractsKeepPersonalDataOutOfWhatIsKept searches Acme's contracts for fields marked debug_redact. No reply or
// rejection of a command may have one, because the inbox stores both. A saga whose request has one needs a retention.
func TestContractsKeepPersonalDataOutOfWhatIsKept(t *testing.T) {
	for _, method := range acmeMethods() {
		name := string(method.FullName())
		command, _ := proto.GetExtension(method.Options(), treatyv1.E_Command).(*treatyv1.Command)
		saga, _ := proto.GetExtension(method.Options(), treatyv1.E_Saga).(*treatyv1.SagaOptions)
		if command != nil && command.GetQuery() == nil {
			if field := personal(method.Output(), nil); field != "" {
				t.Errorf("%s: the reply is kept, and has %s", name, field)
			}
		}
		for _, rejection := range command.GetRejections() {
			found, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(rejection))
			if err != nil {
				t.Fatal(err)
			}
			if field := personal(found.Descriptor(), nil); field != "" {
				t.Errorf("%s: the rejection is kept, and has %s", name, field)
			}
		}
		// A saga that a parent may compensate can't have a retention.
		if field := personal(method.Input(), nil); saga != nil && command == nil && field != "" &&
			saga.GetRetention() == nil {
			t.Errorf("%s has no retention, and its request has %s", name, field)
		}
	}
}

func acmeMethods() (all []protoreflect.MethodDescriptor) {
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(string(file.Package()), "acme.") {
			return true
		}
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				all = append(all, methods.Get(j))
			}
		}
		return true
	})
	return all
}

// personal returns the first marked field of a message, or of a message in it. It returns "" if there is none.
func personal(message protoreflect.MessageDescriptor, around []protoreflect.FullName) string {
	for _, outer := range around {
		if outer == message.FullName() {
			return ""
		}
	}
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		if options, ok := field.Options().(*descriptorpb.FieldOptions); ok && options.GetDebugRedact() {
			return string(field.FullName())
		}
		if field.Message() == nil {
			continue
		}
		if found := personal(field.Message(), append(around, message.FullName())); found != "" {
			return found
		}
	}
	return ""
}
