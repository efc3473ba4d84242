package contract

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
)

// RedactedText replaces a text that isn't shown.
const RedactedText = "[REDACTED]"

// isRedacted reports whether a field has debug_redact: its values must not appear in logs, spans, the console or CLI
// output.
func isRedacted(field protoreflect.FieldDescriptor) bool {
	if options, ok := field.Options().(*descriptorpb.FieldOptions); ok {
		return options.GetDebugRedact()
	}
	options := new(descriptorpb.FieldOptions)
	// A field whose options can't be read counts as redacted.
	return readOptions(field, options) != nil || options.GetDebugRedact()
}

// Redact removes the values that must not be shown from a message, in place. Use it on a copy made for showing, never
// on a message that is sent or stored. It may be called concurrently for different messages.
//
// A string field with debug_redact that isn't empty becomes "[REDACTED]". Any other field with debug_redact is cleared:
// lists, maps, messages, bytes, numbers, bools and enums. Redact descends into messages, lists, maps and
// google.protobuf.Any. It also clears unknown fields, and each Any whose type isn't linked or whose value can't be
// read, because it can't tell what they hold.
func Redact(m proto.Message) {
	redactor{}.redact(m)
}

// typeResolver resolves the types in a google.protobuf.Any. *protoregistry.Types and *dynamicpb.Types implement it.
type typeResolver interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// redactor redacts messages. The zero value uses the types that the program links.
type redactor struct {
	// types resolves the types in a google.protobuf.Any. nil means protoregistry.GlobalTypes.
	types typeResolver
}

// maxAnyDepth is how many nested Anys are read. Deeper ones are cleared.
const maxAnyDepth = 32

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
			m.Set(field, protoreflect.ValueOfString(RedactedText))
		}
	case field.Cardinality() == protoreflect.Required:
		// A required field must stay set, or the message can't be serialized.
		m.Set(field, m.NewField(field))
	default:
		m.Clear(field)
	}
}

var anyName = (*anypb.Any)(nil).ProtoReflect().Descriptor().FullName()

// any redacts the message in an Any, which may be a dynamic message.
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
	unmarshal := proto.UnmarshalOptions{AllowPartial: true, Resolver: r.types}
	if err := unmarshal.Unmarshal(value, held.Interface()); err != nil {
		return nil, false
	}
	r.message(held, depth)
	raw, err = proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(held.Interface())
	return raw, err == nil
}
