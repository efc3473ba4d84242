package contract

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	treatyv1 "github.com/treatyhq/treaty/gen/treaty/v1"
)

// EventType is a message that can be published and awaited as an event. It is immutable.
type EventType struct {
	// Type is the message's full name.
	Type protoreflect.FullName

	// Message is the message's descriptor.
	Message protoreflect.MessageDescriptor

	// Key is the correlation key: the field by whose value sagas await the event. The value is the event's subject.
	Key protoreflect.FieldDescriptor
}

// Errors of [EventType.Subject].
var (
	// ErrEmptyKey means that the correlation key of the event is empty.
	ErrEmptyKey = errors.New("the correlation key is empty")

	// ErrMalformed means that the event is not a valid message, or that its correlation key is not valid UTF-8.
	ErrMalformed = errors.New("the message can't be read")
)

// Subject returns the value of the correlation key in a serialized event, without reading the rest. The value is never
// empty: the error wraps [ErrEmptyKey] or [ErrMalformed].
func (e *EventType) Subject(data []byte) (string, error) {
	var subject []byte
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return "", fmt.Errorf("reading %s: %w", e.Type, ErrMalformed)
		}
		data = data[n:]
		if number == e.Key.Number() && kind == protowire.BytesType {
			value, n := protowire.ConsumeBytes(data)
			if n < 0 {
				return "", fmt.Errorf("reading %s: %w", e.Type, ErrMalformed)
			}
			subject, data = value, data[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return "", fmt.Errorf("reading %s: %w", e.Type, ErrMalformed)
		}
		data = data[n:]
	}
	switch {
	case len(subject) == 0:
		return "", fmt.Errorf("reading %s of %s: %w", e.Key.Name(), e.Type, ErrEmptyKey)
	case !utf8.Valid(subject):
		return "", fmt.Errorf("reading %s of %s: %w", e.Key.Name(), e.Type, ErrMalformed)
	}
	return string(subject), nil
}

// EventTypeOf reads the event that a message describes. It returns nil if the message is not an event. The error joins
// all violations.
func EventTypeOf(m protoreflect.MessageDescriptor) (*EventType, error) {
	var r report
	event := r.event(m)
	if err := r.err(); err != nil {
		return nil, err
	}
	return event, nil
}

// event reads the event that a message describes. It returns nil if the message is not an event.
func (r *report) event(m protoreflect.MessageDescriptor) *EventType {
	is, ok := r.isEvent(m)
	if !ok || !is {
		return nil
	}
	event := &EventType{Type: m.FullName(), Message: m}
	fields := m.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		options, ok := r.fieldOptions(field)
		if !ok || !options.correlationKey {
			continue
		}
		where := atFieldOption(field, treatyv1.E_CorrelationKey)
		oneof := field.ContainingOneof()
		switch {
		case field.Kind() != protoreflect.StringKind || field.Cardinality() == protoreflect.Repeated || oneof != nil &&
			!oneof.IsSynthetic():
			r.add(eventKeyType, where, "the correlation key %s must be a single string: write `string %s = %d`",
				field.Name(), field.Name(), field.Number())
		case options.redacted:
			r.add(fieldRedacted, where,
				"the correlation key %s is stored and shown, so it can't be debug_redact: remove one of the options",
				field.Name())
		}
		if event.Key != nil {
			r.add(eventKeyDuplicate, where, "%s already has the correlation key %s: remove the option here", m.Name(),
				event.Key.Name())
			continue
		}
		event.Key = field
	}
	if event.Key == nil {
		r.add(eventKeyMissing, atMessageOption(m, treatyv1.E_Event), "%s is an event without a correlation key: "+
			"write `[(treaty.v1.correlation_key) = true]` at the string field that identifies it", m.Name())
	}
	return event
}

func (r *report) isEvent(m protoreflect.MessageDescriptor) (is, ok bool) {
	if !annotated(m.ParentFile()) {
		return false, true
	}
	all := new(descriptorpb.MessageOptions)
	if err := readOptions(m, all); err != nil {
		r.unreadable(m)
		return false, false
	}
	r.understood(m)
	return proto.HasExtension(all, treatyv1.E_Event), true
}
