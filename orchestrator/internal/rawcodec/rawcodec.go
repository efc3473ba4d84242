// Package rawcodec is a gRPC codec that passes serialized messages through.
//
// The orchestrator stores requests and replies as the bytes that came from the wire, and sends the same bytes on. A
// [Message] holds such bytes. All other messages go to gRPC's own protobuf codec. The package never parses a Message.
package rawcodec

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// Message is a serialized protobuf message. A Message or a *Message can be sent; a *Message can be received.
//
// The bytes of a message that is sent must never change, not even after the call has ended: they aren't copied, and
// the transport may still hold them. Those of a message that is received belong to the receiver.
type Message []byte

// codec is the codec.
type codec struct{ proto encoding.CodecV2 }

// New returns the codec. It is safe for concurrent use. Its name is "proto", since what it sends is protobuf.
func New() encoding.CodecV2 { return codec{encoding.GetCodecV2(proto.Name)} }

// Marshal passes a Message to the transport without copying it.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	switch m := v.(type) {
	case *Message:
		return mem.BufferSlice{mem.SliceBuffer(*m)}, nil
	case Message:
		return mem.BufferSlice{mem.SliceBuffer(m)}, nil
	case *Held:
		return m.buffers(), nil
	}
	data, err := c.proto.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("serializing a message: %w", err)
	}
	return data, nil
}

// Unmarshal copies a Message out of the transport's buffers.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*Message); ok {
		*m = data.Materialize()
		return nil
	}
	if err := c.proto.Unmarshal(data, v); err != nil {
		return fmt.Errorf("parsing a message: %w", err)
	}
	return nil
}

// Name returns the content subtype.
func (codec) Name() string { return proto.Name }
