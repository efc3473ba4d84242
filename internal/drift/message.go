package drift

import (
	"bytes"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// message compares two messages, and what can be reached from them.
func (c *comparer) message(ours, theirs protoreflect.MessageDescriptor, w writer) {
	if !c.begin(ours, theirs, w) {
		return
	}
	if ours.FullName() != theirs.FullName() {
		c.note(in(ours, ""), "is named %s", theirs.FullName())
	}
	names := numbersByName(theirs)
	for i := range ours.Fields().Len() {
		was := ours.Fields().Get(i)
		is := theirs.Fields().ByNumber(was.Number())
		number, named := names[plain(was.Name())]
		switch {
		case named && number != was.Number():
			c.breaks(in(ours, was.Name()), "its number was %d, is %d", was.Number(), number)
		case is == nil && w == byOrchestrator:
			c.breaks(in(ours, was.Name()), "field %d was removed, so the participant would ignore it", was.Number())
		case is == nil:
			c.breaks(in(ours, was.Name()), "field %d was removed, so the orchestrator would miss it", was.Number())
		default:
			if !named {
				c.note(in(ours, was.Name()), "field %d was renamed to %s", was.Number(), is.Name())
			}
			c.field(was, is, w)
		}
	}
	c.added(ours, theirs, w)
	c.oneofs(ours, theirs, w)
}

// numbersByName returns the numbers of a message's fields.
func numbersByName(message protoreflect.MessageDescriptor) map[string]protoreflect.FieldNumber {
	numbers := make(map[string]protoreflect.FieldNumber, message.Fields().Len())
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		numbers[plain(field.Name())] = field.Number()
	}
	return numbers
}

// plain returns a name in the form in which names are compared. Some reflection servers spell them in camel case.
func plain(name protoreflect.Name) string {
	return strings.ToLower(strings.ReplaceAll(string(name), "_", ""))
}

// added reports the fields that only the participant has.
func (c *comparer) added(ours, theirs protoreflect.MessageDescriptor, w writer) {
	for i := range theirs.Fields().Len() {
		is := theirs.Fields().Get(i)
		switch {
		case ours.Fields().ByNumber(is.Number()) != nil:
		case w == byOrchestrator && is.Cardinality() == protoreflect.Required:
			c.breaks(in(ours, is.Name()), "field %d is new and required, and the orchestrator doesn't send it",
				is.Number())
		default:
			c.note(in(ours, is.Name()), "field %d is new", is.Number())
		}
	}
}

// field compares two fields with the same number.
func (c *comparer) field(ours, theirs protoreflect.FieldDescriptor, w writer) {
	p := in(ours.ContainingMessage(), ours.Name())
	was, is := FieldOf(ours), FieldOf(theirs)
	if ours.IsMap() != theirs.IsMap() || ours.IsList() != theirs.IsList() {
		c.breaks(p, "was %s %s, is %s %s", was.PresenceText(), was.TypeText(), is.PresenceText(), is.TypeText())
		return
	}
	if ours.IsMap() {
		c.value(p, ours.MapKey(), theirs.MapKey(), w)
		c.value(p, ours.MapValue(), theirs.MapValue(), w)
		return
	}
	sent, read := ours, theirs
	if w == byParticipant {
		sent, read = theirs, ours
	}
	switch required := protoreflect.Required; {
	case read.Cardinality() == required && sent.Cardinality() != required:
		c.breaks(p, "was %s, is %s: who reads it needs it, and who sends it may leave it out", was.PresenceText(),
			is.PresenceText())
	case sent.IsList() || sent.Message() != nil:
	case read.HasPresence() && !sent.HasPresence():
		c.breaks(p, "was %s, is %s: who reads it would take a zero for a missing value", was.PresenceText(),
			is.PresenceText())
	case ours.Kind() == theirs.Kind() && !sameDefault(ours, theirs):
		c.breaks(p, "its default value was %s, is %s", defaultText(ours), defaultText(theirs))
	case sent.HasPresence() != read.HasPresence() || sent.Cardinality() != read.Cardinality():
		c.note(p, "was %s, is %s", was.PresenceText(), is.PresenceText())
	}
	c.value(p, ours, theirs, w)
}

// sameDefault returns whether a missing value of two fields of the same kind is read as the same value.
func sameDefault(ours, theirs protoreflect.FieldDescriptor) bool {
	switch ours.Kind() {
	case protoreflect.BytesKind:
		return bytes.Equal(ours.Default().Bytes(), theirs.Default().Bytes())
	default:
		return ours.Default().Equal(theirs.Default())
	}
}

func defaultText(field protoreflect.FieldDescriptor) string {
	if text := field.Default().String(); text != "" {
		return text
	}
	return "empty"
}

// value compares the values of two fields, or two elements, keys or values.
func (c *comparer) value(p place, ours, theirs protoreflect.FieldDescriptor, w writer) {
	sent, read := ours.Kind(), theirs.Kind()
	if w == byParticipant {
		sent, read = read, sent
	}
	switch {
	case ours.Kind() != theirs.Kind() && widens(sent, read):
		c.note(p, "was %s, is %s", FieldOf(ours).TypeText(), FieldOf(theirs).TypeText())
	case ours.Kind() != theirs.Kind():
		c.breaks(p, "was %s, is %s", FieldOf(ours).TypeText(), FieldOf(theirs).TypeText())
	case ours.Message() != nil:
		c.message(ours.Message(), theirs.Message(), w)
	case ours.Enum() != nil:
		c.enum(ours.Enum(), theirs.Enum(), w)
	}
}

// widens returns whether a reader of one kind reads every value of another kind as the same value.
func widens(sent, read protoreflect.Kind) bool {
	switch sent {
	case protoreflect.BoolKind, protoreflect.Uint32Kind:
		return read == protoreflect.Uint64Kind || read == protoreflect.Int64Kind ||
			sent == protoreflect.BoolKind && (read == protoreflect.Uint32Kind || read == protoreflect.Int32Kind)
	case protoreflect.Int32Kind:
		return read == protoreflect.Int64Kind
	case protoreflect.EnumKind:
		return read == protoreflect.Int32Kind || read == protoreflect.Int64Kind
	case protoreflect.Sint32Kind:
		return read == protoreflect.Sint64Kind
	case protoreflect.StringKind:
		return read == protoreflect.BytesKind
	default:
		return false
	}
}

// oneofs compares which fields exclude each other. If they do only for the reader, it keeps one of two values that were
// sent.
func (c *comparer) oneofs(ours, theirs protoreflect.MessageDescriptor, w writer) {
	sent, read := ours, theirs
	if w == byParticipant {
		sent, read = theirs, ours
	}
	for i := range read.Oneofs().Len() {
		oneof := read.Oneofs().Get(i)
		groups := make(map[protoreflect.FullName]bool) // in which the sender has its fields
		var name protoreflect.Name
		for j := range oneof.Fields().Len() {
			number := oneof.Fields().Get(j).Number()
			field := sent.Fields().ByNumber(number)
			if field == nil {
				continue
			}
			group := field.FullName()
			if of := field.ContainingOneof(); of != nil {
				group = of.FullName()
			}
			groups[group] = true
			if own := ours.Fields().ByNumber(number); own != nil && name == "" {
				name = own.Name()
			}
		}
		if len(groups) > 1 {
			c.breaks(in(ours, name), "is one of several fields of which who sends them may set more than one, and who "+
				"reads them keeps one (oneof %s)", oneof.Name())
		}
	}
}

// enum compares two enums.
func (c *comparer) enum(ours, theirs protoreflect.EnumDescriptor, w writer) {
	if !c.begin(ours, theirs, w) {
		return
	}
	if ours.FullName() != theirs.FullName() {
		c.note(in(ours, ""), "is named %s", theirs.FullName())
	}
	sent, read := ours, theirs
	if w == byParticipant {
		sent, read = theirs, ours
	}
	switch {
	case read.IsClosed() && !sent.IsClosed():
		c.breaks(in(ours, ""), "was %s, is %s: who reads it drops values that aren't named", openness(ours),
			openness(theirs))
	case read.IsClosed() != sent.IsClosed():
		c.note(in(ours, ""), "was %s, is %s", openness(ours), openness(theirs))
	}
	for i := range ours.Values().Len() {
		was := ours.Values().Get(i)
		named := theirs.Values().ByName(was.Name())
		is := theirs.Values().ByNumber(was.Number())
		switch {
		case named != nil && named.Number() != was.Number():
			c.breaks(in(ours, was.Name()), "its number was %d, is %d", was.Number(), named.Number())
		case is == nil:
			c.breaks(in(ours, was.Name()), "value %d was removed", was.Number())
		case named == nil:
			c.note(in(ours, was.Name()), "value %d was renamed to %s", was.Number(), is.Name())
		}
	}
	for i := range theirs.Values().Len() {
		is := theirs.Values().Get(i)
		switch {
		case ours.Values().ByNumber(is.Number()) != nil:
		case w == byParticipant && ours.IsClosed():
			c.breaks(in(ours, is.Name()), "value %d is new, and the orchestrator drops values that aren't named",
				is.Number())
		default:
			c.note(in(ours, is.Name()), "value %d is new", is.Number())
		}
	}
}

func openness(enum protoreflect.EnumDescriptor) string {
	if enum.IsClosed() {
		return "closed"
	}
	return "open"
}
