package server

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// payload is a saga's request or reply as the bytes that it is.
type payload []byte

// codec passes payloads through and leaves all other messages to gRPC's own codec.
type codec struct{ proto encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal hands a payload to the transport without copying it.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if p, ok := v.(payload); ok {
		return mem.BufferSlice{mem.SliceBuffer(p)}, nil
	}
	data, err := c.proto.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("serializing a message: %w", err)
	}
	return data, nil
}

// Unmarshal copies a payload out of the transport's buffers.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if p, ok := v.(*payload); ok {
		*p = data.Materialize()
		return nil
	}
	if err := c.proto.Unmarshal(data, v); err != nil {
		return fmt.Errorf("reading a message: %w", err)
	}
	return nil
}

// Name returns the content subtype.
func (c codec) Name() string { return proto.Name }
