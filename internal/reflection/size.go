package reflection

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The limits of what a server may answer to one client. A large company's contracts stay far below.
const (
	// maxServices is how many services a server may list.
	maxServices = 10_000

	// maxFiles is how many files may be received.
	maxFiles = 2000

	// maxBytes is the size of all files that may be received.
	maxBytes = 16 << 20

	// maxMessages is how many messages and enums there may be in all files.
	maxMessages = 20_000

	// maxMembers is how many fields, oneofs, values, methods and extensions there may be in all files.
	maxMembers = 200_000

	// maxDepth is how deep messages may be nested, in descriptors and so in what they describe. The names of nested
	// messages contain those of the outer ones, so they grow with the depth.
	maxDepth = 64
)

// size is how much was received.
type size struct{ files, bytes, types, members int }

// add adds a file. The error, with the code RESOURCE_EXHAUSTED, says which limit it exceeds.
func (s *size) add(raw []byte, file *descriptorpb.FileDescriptorProto) error {
	s.files++
	s.bytes += len(raw)
	s.messages(file.GetMessageType())
	s.enums(file.GetEnumType())
	s.members += len(file.GetExtension())
	for _, service := range file.GetService() {
		s.members += 1 + len(service.GetMethod())
	}
	for _, limit := range []struct {
		what       string
		count, max int
	}{
		{"files", s.files, maxFiles}, {"bytes of descriptors", s.bytes, maxBytes},
		{"messages and enums", s.types, maxMessages}, {"fields and values", s.members, maxMembers},
	} {
		if limit.count > limit.max {
			return status.Errorf(codes.ResourceExhausted,
				"the server's reflection answers with more than %d %s, which is more than is read of one server",
				limit.max, limit.what)
		}
	}
	return nil
}

func (s *size) messages(all []*descriptorpb.DescriptorProto) {
	for _, message := range all {
		s.types++
		s.members += len(message.GetField()) + len(message.GetOneofDecl()) + len(message.GetExtension())
		s.messages(message.GetNestedType())
		s.enums(message.GetEnumType())
	}
}

func (s *size) enums(all []*descriptorpb.EnumDescriptorProto) {
	for _, enum := range all {
		s.types++
		s.members += len(enum.GetValue())
	}
}
