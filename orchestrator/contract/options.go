package contract

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// annotated reports whether a file imports our options, directly or through a public import. The options of other files
// are not read, because their extensions may use the same numbers.
func annotated(file protoreflect.FileDescriptor) bool {
	imports := file.Imports()
	for i := range imports.Len() {
		if reexports(imports.Get(i).FileDescriptor) {
			return true
		}
	}
	return false
}

func reexports(file protoreflect.FileDescriptor) bool {
	if file.Path() == treatyv1.File_treaty_v1_options_proto.Path() {
		return true
	}
	imports := file.Imports()
	for i := range imports.Len() {
		if imp := imports.Get(i); imp.IsPublic && reexports(imp.FileDescriptor) {
			return true
		}
	}
	return false
}

// methodOptions are our options of a method. An option that isn't set is nil.
type methodOptions struct {
	command      *treatyv1.Command
	compensation *treatyv1.Compensation
	saga         *treatyv1.SagaOptions
}

func methodOptionsOf(m protoreflect.MethodDescriptor) (methodOptions, error) {
	var options methodOptions
	if !annotated(m.ParentFile()) {
		return options, nil
	}
	all := new(descriptorpb.MethodOptions)
	if err := readOptions(m, all); err != nil {
		return options, err
	}
	options.command = extension[*treatyv1.Command](all, treatyv1.E_Command)
	options.compensation = extension[*treatyv1.Compensation](all, treatyv1.E_Compensation)
	options.saga = extension[*treatyv1.SagaOptions](all, treatyv1.E_Saga)
	return options, nil
}

// fieldOptions are our options of a field.
type fieldOptions struct {
	requestID, label, correlationKey, redacted bool
}

func fieldOptionsOf(f protoreflect.FieldDescriptor) (fieldOptions, error) {
	var options fieldOptions
	if !annotated(f.ParentFile()) {
		return options, nil
	}
	all := new(descriptorpb.FieldOptions)
	if err := readOptions(f, all); err != nil {
		return options, err
	}
	options.requestID = extension[bool](all, treatyv1.E_RequestId)
	options.label = extension[bool](all, treatyv1.E_Label)
	options.correlationKey = extension[bool](all, treatyv1.E_CorrelationKey)
	options.redacted = all.GetDebugRedact()
	return options, nil
}

// readOptions copies a descriptor's options into a message of the generated type. It serializes them, because the
// descriptor may hold them as dynamic messages, or our extensions as unknown fields.
func readOptions(d protoreflect.Descriptor, into proto.Message) error {
	options := d.Options()
	if options == nil || !options.ProtoReflect().IsValid() {
		return nil
	}
	raw, err := proto.MarshalOptions{AllowPartial: true}.Marshal(options)
	if err != nil {
		return fmt.Errorf("read the options of %s: %w", d.FullName(), err)
	}
	if err := (proto.UnmarshalOptions{AllowPartial: true, Resolver: ourExtensions{}}).Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read the options of %s: %w", d.FullName(), err)
	}
	return nil
}

// extension returns the value of an extension, or the zero value if it isn't set.
func extension[T any](options proto.Message, xt protoreflect.ExtensionType) T {
	var zero T
	if !proto.HasExtension(options, xt) {
		return zero
	}
	value, _ := proto.GetExtension(options, xt).(T)
	return value
}

// ourExtensions resolves our options and no others.
type ourExtensions struct{}

func (ourExtensions) FindExtensionByName(name protoreflect.FullName) (protoreflect.ExtensionType, error) {
	for _, xt := range allExtensions {
		if xt.TypeDescriptor().FullName() == name {
			return xt, nil
		}
	}
	return nil, protoregistry.NotFound
}

func (ourExtensions) FindExtensionByNumber(
	message protoreflect.FullName, number protoreflect.FieldNumber,
) (protoreflect.ExtensionType, error) {
	for _, xt := range allExtensions {
		if d := xt.TypeDescriptor(); d.Number() == number && d.ContainingMessage().FullName() == message {
			return xt, nil
		}
	}
	return nil, protoregistry.NotFound
}

var allExtensions = []protoreflect.ExtensionType{
	treatyv1.E_Command, treatyv1.E_Compensation, treatyv1.E_Saga, treatyv1.E_RequestId, treatyv1.E_Label,
	treatyv1.E_CorrelationKey, treatyv1.E_Event,
}
