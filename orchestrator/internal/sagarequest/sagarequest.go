// Package sagarequest reads the requests that start sagas: it checks them, and finds the request id and the labels that
// their contract marks.
package sagarequest

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/treatyhq/treaty/orchestrator/contract"
	"github.com/treatyhq/treaty/orchestrator/internal/untrusted"
)

const (
	// MaxRequestID is the length of the longest request id, in characters.
	MaxRequestID = 128

	// MaxLabel is the length of the longest value of a label, in characters.
	MaxLabel = 256
)

// Start is what a request says about the saga that it starts.
type Start struct {
	// RequestID makes the start idempotent; empty for none.
	RequestID string

	// Labels are labels, for searching; nil for none.
	Labels map[string]string
}

// Error says which field of a request is invalid, and why.
type Error struct {
	// Field is the name of the field, or "request" for the whole request.
	Field string

	// Problem completes a sentence that begins with the field's name.
	Problem string
}

// Error returns the field and the problem.
func (e *Error) Error() string { return e.Field + " " + e.Problem }

func invalid(field, format string, args ...any) *Error {
	return &Error{Field: field, Problem: fmt.Sprintf(format, args...)}
}

// Reader reads the requests of one saga definition. It may be used concurrently.
type Reader struct {
	definition *contract.SagaDefinition
	input      protoreflect.MessageType
}

// NewReader returns the reader for a saga definition.
func NewReader(definition *contract.SagaDefinition) *Reader {
	return &Reader{definition: definition, input: untrusted.MessageType(definition.Input)}
}

// Read reads a request. A request id outside of the request, for example in the metadata, must be the same as the one
// in it. The error is an *Error.
func (r *Reader) Read(request []byte, requestID string) (Start, error) {
	message, err := r.unmarshal(request)
	if err != nil {
		return Start{}, err
	}
	start := Start{RequestID: requestID}
	if field := r.definition.RequestID; field != nil {
		marked := message.Get(fieldOf(message, field)).String()
		if requestID != "" && requestID != marked {
			return Start{}, invalid(string(field.Name()),
				"is %q, but the request id outside of the request is %q: leave that one out, or make both the same",
				untrusted.Shorten(marked), untrusted.Shorten(requestID))
		}
		start.RequestID = marked
	}
	if n := utf8.RuneCountInString(start.RequestID); n > MaxRequestID {
		return Start{}, invalid("request_id", "has %d characters; at most %d are allowed", n, MaxRequestID)
	}
	start.Labels, err = r.labels(message)
	return start, err
}

// ReadChild reads the request of a saga that is a step of another saga. The id of such a saga is that of the command,
// so its request id is ignored. The error is an *Error.
func (r *Reader) ReadChild(request []byte) (Start, error) {
	message, err := r.unmarshal(request)
	if err != nil {
		return Start{}, err
	}
	labels, err := r.labels(message)
	return Start{Labels: labels}, err
}

func (r *Reader) unmarshal(request []byte) (protoreflect.Message, error) {
	message := r.input.New()
	if err := untrusted.Unmarshal(request, message.Interface()); err != nil {
		return nil, invalid("request", "can't be read as %s, which %s takes: %s",
			r.definition.Input.FullName(), r.definition.Definition, untrusted.Reason(err))
	}
	return message, nil
}

func (r *Reader) labels(message protoreflect.Message) (map[string]string, error) {
	var labels map[string]string
	for _, field := range r.definition.Labels {
		own := fieldOf(message, field)
		if own.HasPresence() && !message.Has(own) {
			continue
		}
		value := labelOf(own, message.Get(own))
		switch n := utf8.RuneCountInString(value); {
		case n == 0:
			continue
		case n > MaxLabel:
			return nil, invalid(string(field.Name()), "is a label and has %d characters; at most %d are allowed", n,
				MaxLabel)
		}
		if labels == nil {
			labels = make(map[string]string, len(r.definition.Labels))
		}
		labels[string(field.Name())] = value
	}
	return labels, nil
}

// fieldOf returns the field as the message's own descriptor has it.
func fieldOf(message protoreflect.Message, field protoreflect.FieldDescriptor) protoreflect.FieldDescriptor {
	return message.Descriptor().Fields().ByNumber(field.Number())
}

// labelOf renders a label's value: numbers in decimal, bools as true and false, enums by name.
func labelOf(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	switch field.Kind() {
	case protoreflect.StringKind:
		return value.String()
	case protoreflect.BoolKind:
		return strconv.FormatBool(value.Bool())
	case protoreflect.EnumKind:
		if known := field.Enum().Values().ByNumber(value.Enum()); known != nil {
			return string(known.Name())
		}
		return strconv.Itoa(int(value.Enum()))
	case protoreflect.FloatKind:
		return strconv.FormatFloat(value.Float(), 'g', -1, 32)
	case protoreflect.DoubleKind:
		return strconv.FormatFloat(value.Float(), 'g', -1, 64)
	default:
		return value.String()
	}
}
