// Package untrusted reads and quotes data from outside: requests, replies and values that anyone may have written.
package untrusted

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

const (
	// maxDepth is how deep messages may be nested.
	maxDepth = 100

	// maxQuoted is how many bytes of a value an error quotes.
	maxQuoted = 100
)

// Unmarshal reads a message, and rejects one that is nested too deep.
func Unmarshal(data []byte, message proto.Message) error {
	return proto.UnmarshalOptions{RecursionLimit: maxDepth}.Unmarshal(data, message)
}

// Reason returns the text of an error of package proto without its prefix.
func Reason(err error) string {
	text := strings.TrimPrefix(err.Error(), "proto:")
	return strings.TrimSpace(strings.ReplaceAll(text, "\u00a0", " "))
}

// Shorten cuts a value so that it doesn't fill an error message.
func Shorten(s string) string {
	if len(s) <= maxQuoted {
		return s
	}
	return strings.ToValidUTF8(s[:maxQuoted], "") + "..."
}

// MessageType returns the generated type of a message if it is linked, since that is read faster, and a dynamic type
// otherwise.
func MessageType(message protoreflect.MessageDescriptor) protoreflect.MessageType {
	if generated, err := protoregistry.GlobalTypes.FindMessageByName(message.FullName()); err == nil {
		return generated
	}
	return dynamicpb.NewMessageType(message)
}
