package rawcodec

import (
	"slices"
	"sync/atomic"

	"google.golang.org/grpc/mem"
)

// heldBytes is how many bytes of a held message the transport gives back at once.
const heldBytes = 16 << 10

// Held is a serialized message that is sent once, by its pointer. It tells what of it the transport doesn't hold any
// more.
type Held struct {
	data  []byte
	freed func(bytes int)
}

// NewHeld returns a message. The function is called for one part of the message after another, when the transport has
// written it, has discarded it or has refused it. It isn't called for what the transport holds when the connection
// closes, nor if the message isn't sent.
//
// The bytes must never change.
func NewHeld(data []byte, freed func(bytes int)) *Held { return &Held{data: data, freed: freed} }

// buffers returns the message for the transport.
func (h *Held) buffers() mem.BufferSlice {
	var parts mem.BufferSlice
	for part := range slices.Chunk(h.data, heldBytes) {
		b := &heldBuffer{SliceBuffer: part, freed: h.freed}
		b.refs.Store(1)
		parts = append(parts, b)
	}
	return parts
}

// heldBuffer is a part of a held message.
type heldBuffer struct {
	mem.SliceBuffer

	refs  atomic.Int32
	freed func(bytes int)
}

// Ref counts one more holder.
func (b *heldBuffer) Ref() { b.refs.Add(1) }

// Free counts one holder less.
func (b *heldBuffer) Free() {
	if b.refs.Add(-1) == 0 {
		b.freed(len(b.SliceBuffer))
	}
}
