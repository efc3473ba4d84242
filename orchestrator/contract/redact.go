package contract

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
)

// redactedText is what stands in the place of a redacted string.
const redactedText = "[REDACTED]"

// isRedacted tells whether a field is marked with debug_redact: its values must not appear in a log, span, UI or CLI output.
func isRedacted(field protoreflect.FieldDescriptor) bool {
	if options, ok := field.Options().(*descriptorpb.FieldOptions); ok {
		return options.GetDebugRedact()
	}
	options := new(descriptorpb.FieldOptions)
	// What can't be read is not shown.
	return readOptions(field, options) != nil || options.GetDebugRedact()
}

// Redact removes from a message, in place, what must not be shown, with the types that the program links. See redactor.
func Redact(m proto.Message) {
	redactor{}.redact(m)
}

// typeResolver finds the types of what a google.protobuf.Any holds. Both *protoregistry.Types and *dynamicpb.Types are one.
type typeResolver interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// redactor removes what must not be shown. It is for the copy that is shown, never for the message that is sent or stored.
// The zero value uses the types that the program links. It may be used concurrently for different messages.
type redactor struct {
	// types resolves what a google.protobuf.Any holds; nil means protoregistry.GlobalTypes.
	types typeResolver
}

// maxAnyDepth is how many Anys inside each other are read; what is deeper is emptied.
const maxAnyDepth = 32

// redact changes m in place. A string marked with debug_redact that isn't empty becomes redactedText; any other marked field is
// emptied: lists, maps, messages, bytes, numbers, bools and enums. It goes through messages, lists, maps and
// google.protobuf.Any. Nobody can tell what is in an Any whose type isn't known or whose value can't be read, nor in
// unknown fields, so they are emptied too.
func (r redactor) redact(m proto.Message) {
	if r.types == nil {
		r.types = protoregistry.GlobalTypes
	}
	if m != nil && m.ProtoReflect().IsValid() {
		r.message(m.ProtoReflect(), 0)
	}
}

func (r redactor) message(m protoreflect.Message, depth int) {
	if len(m.GetUnknown()) > 0 {
		m.SetUnknown(nil)
	}
	if m.Descriptor().FullName() == anyName {
		r.any(m, depth)
		return
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case isRedacted(field):
			redactField(m, field)
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					r.message(v.Message(), depth)
					return true
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				r.message(value.List().Get(i).Message(), depth)
			}
		default:
			r.message(value.Message(), depth)
		}
		return true
	})
}

func redactField(m protoreflect.Message, field protoreflect.FieldDescriptor) {
	single := field.Cardinality() != protoreflect.Repeated
	switch {
	case single && field.Kind() == protoreflect.StringKind:
		if m.Get(field).String() != "" {
			m.Set(field, protoreflect.ValueOfString(redactedText))
		}
	case field.Cardinality() == protoreflect.Required:
		// A required field must stay, or the message can't be written.
		m.Set(field, m.NewField(field))
	default:
		m.Clear(field)
	}
}

var anyName = (*anypb.Any)(nil).ProtoReflect().Descriptor().FullName()

// any redacts what an Any holds. It may be a dynamic message.
func (r redactor) any(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	url, value := fields.ByName("type_url"), fields.ByName("value")
	if url == nil || value == nil || !m.Has(value) {
		return
	}
	raw, ok := r.anyValue(m.Get(url).String(), m.Get(value).Bytes(), depth+1)
	if !ok {
		m.Clear(value)
		return
	}
	m.Set(value, protoreflect.ValueOfBytes(raw))
}

func (r redactor) anyValue(url string, value []byte, depth int) (raw []byte, ok bool) {
	if depth > maxAnyDepth {
		return nil, false
	}
	kind, err := r.types.FindMessageByURL(url)
	if err != nil {
		return nil, false
	}
	held := kind.New()
	if err := (proto.UnmarshalOptions{AllowPartial: true, Resolver: r.types}).Unmarshal(value, held.Interface()); err != nil {
		return nil, false
	}
	r.message(held, depth)
	raw, err = proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(held.Interface())
	return raw, err == nil
}
