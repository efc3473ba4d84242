package schema

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
)

// DecodeError reports JSON that isn't a message of a type. It never repeats a value in the JSON, which may belong to a
// field marked debug_redact.
type DecodeError struct {
	// Type is the full name of the message.
	Type protoreflect.FullName

	// Place is the place of the error in the JSON, e.g. "at line 2, column 3", or "" if it isn't known.
	Place string

	// Cause says what is wrong there.
	Cause string

	// Fields are the JSON names of the message's fields.
	Fields []string
}

// Error returns the detail.
func (e *DecodeError) Error() string { return "not a " + e.Detail() }

// Detail returns the type, the place and the cause: "acme.v1.Card at line 2, column 3: unknown field".
func (e *DecodeError) Detail() string {
	if e.Place == "" {
		return fmt.Sprintf("%s: %s", e.Type, e.Cause)
	}
	return fmt.Sprintf("%s %s: %s", e.Type, e.Place, e.Cause)
}

// protoPosition matches the position in an error of protojson, protoValue the value that the error repeats.
var (
	protoPosition = regexp.MustCompile(`\(line (\d+):(\d+)\): ?`)
	protoValue    = regexp.MustCompile(`(?s)^(invalid value for \S+ field \S+?|invalid value|unexpected token):? .*$`)
)

// Decode reads JSON as a message of a type, by protobuf's JSON mapping. The error is a [*DecodeError].
func (s *Schema) Decode(descriptor protoreflect.MessageDescriptor, json []byte) (*dynamicpb.Message, error) {
	message := dynamicpb.NewMessage(descriptor)
	err := protojson.UnmarshalOptions{Resolver: s}.Unmarshal(json, message)
	if err == nil {
		return message, nil
	}
	out := &DecodeError{Type: descriptor.FullName(), Fields: fieldNames(descriptor)}
	// protojson varies its white space on purpose.
	cause := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	cause = strings.TrimPrefix(cause, "proto: ")
	if at := protoPosition.FindStringSubmatch(cause); at != nil {
		out.Place = "at line " + at[1] + ", column " + at[2]
		cause = protoPosition.ReplaceAllString(cause, "")
	}
	cause = strings.TrimPrefix(cause, "syntax error ")
	out.Cause = protoValue.ReplaceAllString(cause, "$1")
	if out.Cause == "unexpected EOF" {
		out.Place, out.Cause = "at its end", "something is missing"
	}
	return nil, out
}

func fieldNames(descriptor protoreflect.MessageDescriptor) []string {
	var names []string
	for i := range descriptor.Fields().Len() {
		names = append(names, descriptor.Fields().Get(i).JSONName())
	}
	return names
}

// Pack puts a message into an Any. The same message always gives the same bytes.
func Pack(message proto.Message) (*anypb.Any, error) {
	out := new(anypb.Any)
	if err := anypb.MarshalFrom(out, message, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("serializing the %s: %w", message.ProtoReflect().Descriptor().FullName(), err)
	}
	return out, nil
}
