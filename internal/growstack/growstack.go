// Package growstack gives a goroutine the stack that it is going to need.
//
// The stack of a new goroutine has a few KiB. Each time it is too small, the runtime copies it to one of twice the
// size, and corrects every frame that is on it. A goroutine that makes a gRPC call or encodes a message grows so two or
// three times, deep in the call. Growing once at its beginning, when there are hardly any frames, costs a fraction of
// that.
package growstack

// size is what the caller needs, in bytes.
const size = 5 << 10

// Grow makes sure that the goroutine's stack has at least 5 KiB left. The runtime shrinks a stack that isn't used.
func Grow() { grow(-1) }

// grow has a frame of this size, so the runtime makes room for it when it is entered. With a negative index it writes
// nothing to the frame.
//
//go:noinline
func grow(index int) byte {
	if index < 0 {
		return 0
	}
	var frame [size]byte
	for i := range frame {
		frame[i] = byte(i)
	}
	return frame[index%size]
}
