package orchestrator

import "os"

// heapReserve is how many bytes an orchestrator allocates between two garbage collections, at least. Its live heap is
// small, some megabytes under load, so Go would otherwise collect many times a second.
const heapReserve = 16 << 20

// reserveHeap returns a reservation that makes Go collect garbage less often while the heap is small. Its pages are
// never written, so it takes address space and no memory. It is nil if the environment configures the garbage
// collector. The reservation has its effect for as long as it is reachable.
func reserveHeap() []byte {
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		if os.Getenv(name) != "" {
			return nil
		}
	}
	return make([]byte, heapReserve)
}
