package contract

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// The numbers that are reserved for Treaty's options. A newer version may use any of them.
const (
	firstOption = 51870
	lastOption  = 51879
)

// optionsFields are the numbers of the options in the messages that describe files, services and so on, by the types of
// the options.
var optionsFields = map[protoreflect.FullName]int32{
	"google.protobuf.FileOptions":      8,
	"google.protobuf.MessageOptions":   messageOptionsField,
	"google.protobuf.FieldOptions":     fieldOptionsField,
	"google.protobuf.OneofOptions":     2,
	"google.protobuf.EnumOptions":      3,
	"google.protobuf.EnumValueOptions": 3,
	"google.protobuf.ServiceOptions":   3,
	"google.protobuf.MethodOptions":    methodOptionsField,
}

// understood reports our options of a descriptor that this version would ignore: those that it doesn't know, and fields
// of a oneof that another field replaces. The options of a newer version may change what a contract means.
func (r *report) understood(d protoreflect.Descriptor) {
	options := d.Options()
	if options == nil || !options.ProtoReflect().IsValid() || !annotated(d.ParentFile()) {
		return
	}
	raw, err := proto.MarshalOptions{AllowPartial: true}.Marshal(options)
	if err != nil {
		return // reading the options reports it
	}
	kind := options.ProtoReflect().Descriptor().FullName()
	ours := make(map[protowire.Number][]byte)
	for f := range fieldsOf(raw) {
		where := site{desc: d, path: []int32{optionsFields[kind], int32(f.number)}}
		xt, err := ourExtensions{}.FindExtensionByNumber(kind, f.number)
		switch {
		case err == nil && f.kind == wireType(xt.TypeDescriptor()):
			ours[f.number] = append(ours[f.number], f.payload()...)
		case err == nil || isOurs(d.ParentFile(), kind, f.number):
			r.add(optionUnreadable, where, "%s has the option %d, which this version doesn't know: "+
				"update github.com/treatyhq/treaty, or remove the option", named(d), f.number)
		}
	}
	for _, number := range slices.Sorted(maps.Keys(ours)) {
		xt, _ := ourExtensions{}.FindExtensionByNumber(kind, number)
		if message := xt.TypeDescriptor().Message(); message != nil {
			r.misread(misreadParams{
				where: site{desc: d, path: []int32{optionsFields[kind], int32(number)}}, message: message,
				name: fmt.Sprintf("(%s)", xt.TypeDescriptor().FullName()),
			}, ours[number])
		}
	}
}

// named returns the name of a descriptor for a message. A file has none of its own.
func named(d protoreflect.Descriptor) string {
	if _, is := d.(protoreflect.FileDescriptor); is {
		return "the file"
	}
	return string(d.Name())
}

// misreadParams says which message is read: its place, its type, and what it is called.
type misreadParams struct {
	where   site
	message protoreflect.MessageDescriptor
	name    string
}

// misread reports what a reader of a message would ignore. A message that is written in several parts has them one
// after the other.
func (r *report) misread(p misreadParams, data []byte) {
	single := make(map[protowire.Number][]byte)
	count := make(map[protowire.Number]int32)
	chosen := make(map[protoreflect.FullName]protoreflect.FieldDescriptor)
	for f := range fieldsOf(data) {
		where, field := p.where.below(int32(f.number)), p.message.Fields().ByNumber(f.number)
		if field == nil || f.kind != wireType(field) {
			r.add(optionUnreadable, where, "%s sets field %d of %s, which this version doesn't know: "+
				"update github.com/treatyhq/treaty, or remove the field", named(p.where.desc), f.number, p.name)
			continue
		}
		if oneof := field.ContainingOneof(); oneof != nil {
			if other := chosen[oneof.FullName()]; other != nil && other != field {
				r.add(optionUnreadable, where, "%s sets both %s and %s of %s, but only one can count: remove one",
					named(p.where.desc), other.Name(), field.Name(), p.name)
			}
			chosen[oneof.FullName()] = field
		}
		switch {
		case field.Message() == nil:
		case field.IsList():
			below := p.below(field)
			below.where = below.where.below(count[f.number])
			count[f.number]++
			r.misread(below, f.payload())
		default:
			single[f.number] = append(single[f.number], f.payload()...)
		}
	}
	for _, number := range slices.Sorted(maps.Keys(single)) {
		r.misread(p.below(p.message.Fields().ByNumber(number)), single[number])
	}
}

// below returns the message in a field.
func (p misreadParams) below(field protoreflect.FieldDescriptor) misreadParams {
	return misreadParams{
		where: p.where.below(int32(field.Number())), message: field.Message(),
		name: p.name + "." + string(field.Name()),
	}
}

// wireField is a field of a serialized message.
type wireField struct {
	number protowire.Number
	kind   protowire.Type
	value  []byte
}

// payload returns the content of a field with a length, and nothing of another one.
func (f wireField) payload() []byte {
	if f.kind != protowire.BytesType {
		return nil
	}
	payload, _ := protowire.ConsumeBytes(f.value)
	return payload
}

// fieldsOf yields the fields of a serialized message. It ends early when the message is malformed.
func fieldsOf(data []byte) func(yield func(wireField) bool) {
	return func(yield func(wireField) bool) {
		for len(data) > 0 {
			number, kind, tag := protowire.ConsumeTag(data)
			if tag < 0 {
				return
			}
			value := protowire.ConsumeFieldValue(number, kind, data[tag:])
			if value < 0 || !yield(wireField{number, kind, data[tag : tag+value]}) {
				return
			}
			data = data[tag+value:]
		}
	}
}

// wireType returns how a field of our options is written. They have texts, messages, numbers, bools and enums.
func wireType(field protoreflect.FieldDescriptor) protowire.Type {
	switch field.Kind() {
	case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
		return protowire.BytesType
	default:
		return protowire.VarintType
	}
}

// isOurs returns whether an option that this version doesn't know belongs to a newer one. The number says so, unless
// the file imports another option with that number.
func isOurs(file protoreflect.FileDescriptor, options protoreflect.FullName, number protowire.Number) bool {
	if number < firstOption || number > lastOption {
		return false
	}
	seen := make(map[string]bool)
	var declared func(file protoreflect.FileDescriptor) bool
	declared = func(file protoreflect.FileDescriptor) bool {
		if seen[file.Path()] || file.Path() == treatyv1.File_treaty_v1_options_proto.Path() {
			return false
		}
		seen[file.Path()] = true
		if extends(file, options, number) {
			return true
		}
		for i := range file.Imports().Len() {
			if declared(file.Imports().Get(i).FileDescriptor) {
				return true
			}
		}
		return false
	}
	return !declared(file)
}

// extends returns whether a file or a message declares an extension of options with a number.
func extends(in interface {
	Extensions() protoreflect.ExtensionDescriptors
	Messages() protoreflect.MessageDescriptors
}, options protoreflect.FullName, number protowire.Number,
) bool {
	for i := range in.Extensions().Len() {
		extension := in.Extensions().Get(i)
		if extension.Number() == number && extension.ContainingMessage().FullName() == options {
			return true
		}
	}
	for i := range in.Messages().Len() {
		if extends(in.Messages().Get(i), options, number) {
			return true
		}
	}
	return false
}

// understoodFile reports options of a file, and of everything in it, that this version would ignore.
func (r *report) understoodFile(file protoreflect.FileDescriptor) {
	r.understood(file)
	r.understoodTypes(file)
	for i := range file.Services().Len() {
		service := file.Services().Get(i)
		r.understood(service)
		for m := range methodsOf(service) {
			r.understood(m)
		}
	}
}

// understoodTypes reports options of the messages, enums and extensions of a file or a message.
func (r *report) understoodTypes(in interface {
	Messages() protoreflect.MessageDescriptors
	Enums() protoreflect.EnumDescriptors
	Extensions() protoreflect.ExtensionDescriptors
},
) {
	for i := range in.Messages().Len() {
		message := in.Messages().Get(i)
		r.understood(message)
		for j := range message.Fields().Len() {
			r.understood(message.Fields().Get(j))
		}
		for j := range message.Oneofs().Len() {
			r.understood(message.Oneofs().Get(j))
		}
		r.understoodTypes(message)
	}
	for i := range in.Enums().Len() {
		enum := in.Enums().Get(i)
		r.understood(enum)
		for j := range enum.Values().Len() {
			r.understood(enum.Values().Get(j))
		}
	}
	for i := range in.Extensions().Len() {
		r.understood(in.Extensions().Get(i))
	}
}
