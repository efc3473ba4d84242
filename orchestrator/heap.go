package orchestrator

import (
	"os"
	"runtime"
	"runtime/metrics"
	"sync"
)

const (
	// heapReserveSize is how many bytes an orchestrator allocates between two garbage collections, at least. Its live
	// heap is small, some megabytes under load, so Go would otherwise collect many times a second.
	heapReserveSize = 16 << 20

	// heapReserveAgain is how small the live heap must be until the reservation is made again.
	heapReserveAgain = heapReserveSize / 2
)

// heapReserve is a reservation of memory that makes Go collect garbage less often while the heap is small. Its pages
// are never written, so it takes address space and no memory by itself.
//
// Once the live heap is as large as the reservation, Go collects seldom enough without it. Then it is given up, because
// it would double what it adds, and made again when the heap has shrunk.
type heapReserve struct {
	mu     sync.Mutex
	bytes  []byte
	closed bool
}

// newHeapReserve returns a reservation that lasts until close. It is empty forever if the environment configures the
// garbage collector.
func newHeapReserve() *heapReserve {
	r := new(heapReserve)
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if os.Getenv(name) != "" {
			return r
		}
	}
	r.bytes = make([]byte, heapReserveSize)
	r.adjustAfterCollection()
	return r
}

// close gives the reservation up.
func (r *heapReserve) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes, r.closed = nil, true
}

// adjustAfterCollection adjusts the reservation after each collection, beginning with the next one.
func (r *heapReserve) adjustAfterCollection() {
	sentinel := new(*heapReserve) // has a pointer, so that it doesn't share its memory with other small values
	runtime.AddCleanup(sentinel, func(r *heapReserve) {
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		if r.adjust(live[0].Value.Uint64()) {
			r.adjustAfterCollection()
		}
	}, r)
}

// adjust gives the reservation up, or makes it again, depending on how large the live heap is with it. It returns false
// once the reservation is closed.
func (r *heapReserve) adjust(live uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	others := live - min(live, uint64(len(r.bytes)))
	switch {
	case r.closed:
		return false
	case others >= heapReserveSize:
		r.bytes = nil
	case others < heapReserveAgain && r.bytes == nil:
		r.bytes = make([]byte, heapReserveSize)
	}
	return true
}
