package dispatch

import (
	"fmt"

	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
)

// exchange is a call's request and reply as gRPC's codec sees them: bytes that are passed through; and the trailers that came with
// the answer. One pointer to it serves as all three, so that a call takes one allocation for them.
type exchange struct {
	request, reply []byte
	trailer        metadata.MD
}

// rawCodec passes messages through. It is called proto, because what it passes is.
type rawCodec struct{}

// Marshal hands the request's bytes to the transport without copying them. The transport may hold them after the call
// has ended, which is why an attempt's request must never change.
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	x, ok := v.(*exchange)
	if !ok {
		return nil, fmt.Errorf("dispatch: sending a %T instead of an exchange", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(x.request)}, nil
}

// Unmarshal copies the reply out of the transport's buffers.
func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	x, ok := v.(*exchange)
	if !ok {
		return fmt.Errorf("dispatch: receiving into a %T instead of an exchange", v)
	}
	x.reply = data.Materialize()
	return nil
}

// Name returns the content subtype.
func (rawCodec) Name() string { return "proto" }
