package contract

import (
	"bytes"
	"compress/gzip"
	"io"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// compiled returns a file that is linked into the program as its compiler wrote it, or nil if the program doesn't hold
// it. The descriptors of a linked file hold our options as they were read, where one kind of a command has replaced
// another.
func compiled(file protoreflect.FileDescriptor) protoreflect.FileDescriptor {
	for i := range file.Messages().Len() {
		linked, err := protoregistry.GlobalTypes.FindMessageByName(file.Messages().Get(i).FullName())
		if err != nil || linked.Descriptor().ParentFile() != file {
			return nil
		}
		message, ok := linked.Zero().Interface().(interface{ Descriptor() ([]byte, []int) })
		if !ok {
			continue
		}
		compressed, _ := message.Descriptor()
		return decompressed(compressed)
	}
	return nil
}

func decompressed(compressed []byte) protoreflect.FileDescriptor {
	reader, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		return nil
	}
	raw, err := io.ReadAll(reader)
	if err != nil {
		return nil
	}
	file := new(descriptorpb.FileDescriptorProto)
	if err := (proto.UnmarshalOptions{Resolver: new(protoregistry.Types)}).Unmarshal(raw, file); err != nil {
		return nil
	}
	read, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		return nil
	}
	return read
}
