package saga

import (
	"strconv"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// difference returns the path of the first field in which two messages of one type differ, e.g. "order.lines[2].sku".
// It has no values, and so no key of a map. It is empty if the messages are equal, or differ in unknown fields only.
func difference(a, b protoreflect.Message) string {
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if a.Has(field) != b.Has(field) {
			return string(field.Name())
		}
		if a.Has(field) && !a.Get(field).Equal(b.Get(field)) {
			return string(field.Name()) + differenceWithin(field, a.Get(field), b.Get(field))
		}
	}
	return ""
}

// differenceWithin returns where two values of a field differ, as a suffix of the field's path. It is empty if all of
// the field differs.
func differenceWithin(field protoreflect.FieldDescriptor, a, b protoreflect.Value) string {
	switch {
	case field.IsMap():
		return ""
	case !field.IsList():
		return differenceOf(field, a, b)
	case a.List().Len() != b.List().Len():
		return ""
	}
	for i := range a.List().Len() {
		if a.List().Get(i).Equal(b.List().Get(i)) {
			continue
		}
		return "[" + strconv.Itoa(i) + "]" + differenceOf(field, a.List().Get(i), b.List().Get(i))
	}
	return ""
}

// differenceOf is differenceWithin for one value.
func differenceOf(field protoreflect.FieldDescriptor, a, b protoreflect.Value) string {
	if field.Message() == nil {
		return ""
	}
	if inner := difference(a.Message(), b.Message()); inner != "" {
		return "." + inner
	}
	return ""
}
