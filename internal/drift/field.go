package drift

import (
	"fmt"
	"regexp"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Field is a field of a message. In a file it is a line as in a .proto file: "repeated acme.card.v1.Card cards".
type Field struct {
	// Label is optional for a scalar or enum with explicit presence, repeated, required, or empty.
	Label string

	// Type is a scalar type of protobuf, or the full name of a message or enum. For a map, it is that of the values.
	Type protoreflect.FullName

	// Key is the type of a map's keys, or empty for any other field.
	Key string

	// Name is the name of the field.
	Name protoreflect.Name

	// Oneof is the name of the oneof that the field belongs to, or empty.
	Oneof protoreflect.Name

	// Shape is what the field, or a value of the map, is.
	Shape Shape
}

// Shape is what a field, or a value of a map, is.
type Shape int

// The shapes.
const (
	ScalarShape Shape = iota
	EnumShape
	MessageShape
	DelimitedShape // a message between two tags: a group of proto2
)

// FieldOf describes a field.
func FieldOf(field protoreflect.FieldDescriptor) Field {
	out := Field{Name: field.Name()}
	value := field
	switch {
	case field.IsMap():
		out.Key, value = field.MapKey().Kind().String(), field.MapValue()
	case field.IsList():
		out.Label = "repeated"
	case field.Cardinality() == protoreflect.Required:
		out.Label = "required"
	case field.ContainingOneof() != nil && !isSynthetic(field.ContainingOneof()):
		out.Oneof = field.ContainingOneof().Name()
	case field.HasPresence() && field.Message() == nil:
		out.Label = "optional"
	}
	switch value.Kind() {
	case protoreflect.EnumKind:
		out.Type, out.Shape = value.Enum().FullName(), EnumShape
	case protoreflect.MessageKind:
		out.Type, out.Shape = value.Message().FullName(), MessageShape
	case protoreflect.GroupKind:
		out.Type, out.Shape = value.Message().FullName(), DelimitedShape
	default:
		out.Type = protoreflect.FullName(value.Kind().String())
	}
	return out
}

// isSynthetic reports whether a oneof was made by the compiler for an optional field. The server reflection for Node
// doesn't say so, but keeps the name.
func isSynthetic(oneof protoreflect.OneofDescriptor) bool {
	return oneof.IsSynthetic() || oneof.Fields().Len() == 1 && oneof.Name() == "_"+oneof.Fields().Get(0).Name()
}

// TypeText returns the type as it is written: "string", "enum acme.v1.State", "map<string, acme.v1.Card>".
func (f Field) TypeText() string {
	text := string(f.Type)
	switch f.Shape {
	case EnumShape:
		text = "enum " + text
	case DelimitedShape:
		text = "group " + text
	case ScalarShape, MessageShape:
	}
	if f.Key != "" {
		return "map<" + f.Key + ", " + text + ">"
	}
	return text
}

// PresenceText returns the label in words.
func (f Field) PresenceText() string {
	switch {
	case f.Oneof != "":
		return "in oneof " + string(f.Oneof)
	case f.Label == "" && f.Key != "":
		return "a map"
	case f.Label == "" && (f.Shape == ScalarShape || f.Shape == EnumShape):
		return "singular without presence"
	case f.Label == "":
		return "singular"
	default:
		return f.Label
	}
}

// String returns the field as it is written in a file, without its number.
func (f Field) String() string {
	text := f.TypeText() + " " + string(f.Name)
	if f.Label != "" {
		text = f.Label + " " + text
	}
	if f.Oneof != "" {
		text += " (oneof " + string(f.Oneof) + ")"
	}
	return text
}

// MarshalYAML writes the field as one line.
func (f Field) MarshalYAML() (any, error) { return f.String(), nil }

const (
	typePattern = `(?:(enum|group) )?([A-Za-z_][\w.]*)`
	namePattern = `([A-Za-z_]\w*)`
)

var fieldPattern = regexp.MustCompile(`^(?:(optional|required|repeated) )?(?:` + typePattern + `|map<(\w+), ` +
	typePattern + `>) ` + namePattern + `(?: \(oneof ` + namePattern + `\))?$`)

// UnmarshalYAML reads a field from a line.
func (f *Field) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	if err := unmarshal(&text); err != nil {
		return err
	}
	match := fieldPattern.FindStringSubmatch(text)
	if match == nil {
		return fmt.Errorf("%.200q isn't a field", text)
	}
	*f = Field{
		Label: match[1], Type: protoreflect.FullName(match[3] + match[6]), Key: match[4],
		Name: protoreflect.Name(match[7]), Oneof: protoreflect.Name(match[8]),
	}
	switch match[2] + match[5] {
	case "enum":
		f.Shape = EnumShape
	case "group":
		f.Shape = DelimitedShape
	default:
		f.Shape = MessageShape
		if isScalarType(string(f.Type)) {
			f.Shape = ScalarShape
		}
	}
	return nil
}

// isScalarType reports whether a name is a scalar type of protobuf.
func isScalarType(name string) bool {
	for kind := protoreflect.DoubleKind; kind <= protoreflect.Sint64Kind; kind++ {
		switch kind {
		case protoreflect.EnumKind, protoreflect.MessageKind, protoreflect.GroupKind:
		default:
			if kind.String() == name {
				return true
			}
		}
	}
	return false
}
