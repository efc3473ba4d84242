package sagatest

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// maxDepth is how deep default replies are filled.
const maxDepth = 4

// typeOf returns the linked Go type of a message, or one without Go code.
func typeOf(descriptor protoreflect.MessageDescriptor) protoreflect.MessageType {
	if linked, err := protoregistry.GlobalTypes.FindMessageByName(descriptor.FullName()); err == nil {
		return linked
	}
	return dynamicpb.NewMessageType(descriptor)
}

// plausible returns a reply to a request. A field has the value of the request's field with the same name and type, if
// there is one. Otherwise a text is the field's name, a number is 1, a bool is true, and an enum has its first value
// that isn't zero. A timestamp is now. Lists have one element, and of a oneof, the first field is set.
func plausible(descriptor protoreflect.MessageDescriptor, request proto.Message) proto.Message {
	reply := typeOf(descriptor).New()
	fill(reply, request.ProtoReflect(), 1)
	return reply.Interface()
}

func fill(message, request protoreflect.Message, depth int) {
	switch m := message.Interface().(type) {
	case *timestamppb.Timestamp:
		proto.Merge(m, timestamppb.Now())
		return
	case *anypb.Any:
		return // it could be anything
	}
	fields := message.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if one := field.ContainingOneof(); one != nil && !one.IsSynthetic() && message.WhichOneof(one) != nil {
			continue
		}
		if request != nil && copyField(message, request, field) {
			continue
		}
		switch {
		case field.IsMap():
		case field.IsList():
			list := message.Mutable(field).List()
			if field.Message() == nil {
				list.Append(scalar(field))
			} else if depth < maxDepth {
				element := list.NewElement()
				fill(element.Message(), nil, depth+1)
				list.Append(element)
			}
		case field.Message() != nil:
			if depth < maxDepth {
				fill(message.Mutable(field).Message(), nil, depth+1)
			}
		default:
			message.Set(field, scalar(field))
		}
	}
}

// copyField copies a field of the request with the same name and type, and returns whether there is one.
func copyField(message, request protoreflect.Message, field protoreflect.FieldDescriptor) bool {
	same := request.Descriptor().Fields().ByName(field.Name())
	if same == nil || same.Kind() != field.Kind() || same.Cardinality() != field.Cardinality() || same.IsMap() ||
		!request.Has(same) {
		return false
	}
	if same.Message() != nil || same.Enum() != nil || same.IsList() {
		return false // their Go types may differ
	}
	message.Set(field, request.Get(same))
	return true
}

// scalar returns a value of a field, or of an element of its list.
func scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(string(field.Name()))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(field.Name()))
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(min(1, values.Len()-1)).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(1)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(1)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(1)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(1)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(1)
	default:
		return protoreflect.ValueOfFloat64(1)
	}
}
