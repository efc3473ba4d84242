package orchestrator

import (
	"runtime"
	"testing"
)

func TestHeapReserve(t *testing.T) {
	for _, test := range []struct {
		name, gogc, limit string
		want              int
	}{
		{"by default", "", "", heapReserveSize},
		{"GOGC is set", "50", "", 0},
		{"GOMEMLIMIT is set", "", "100MiB", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GOGC", test.gogc)
			t.Setenv("GOMEMLIMIT", test.limit)
			reserve := newHeapReserve()
			defer reserve.close()
			if got := reserve.size(); got != test.want {
				t.Errorf("the reservation has %d bytes, want %d", got, test.want)
			}
		})
	}
}

// TestHeapReserveIsGivenUp tests that a large heap isn't made larger by the reservation.
func TestHeapReserveIsGivenUp(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	reserve := newHeapReserve()
	defer reserve.close()
	for _, step := range []struct {
		others uint64 // bytes that are live beside the reservation
		want   int
	}{
		{1 << 20, heapReserveSize},
		{heapReserveSize - 1, heapReserveSize},
		{heapReserveSize, 0},
		{heapReserveSize / 2, 0},
		{heapReserveSize/2 - 1, heapReserveSize},
	} {
		reserve.adjust(step.others + uint64(reserve.size()))
		if got := reserve.size(); got != step.want {
			t.Errorf("with %d live bytes beside it, the reservation has %d bytes, want %d", step.others, got, step.want)
		}
	}
}

// TestHeapReserveFollowsCollections tests that the reservation is looked at after garbage collections, each time.
func TestHeapReserveFollowsCollections(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	reserve := newHeapReserve()
	defer reserve.close()
	for range 2 {
		withLargeHeap(func() { collectUntil(t, func() bool { return reserve.size() == 0 }) })
		collectUntil(t, func() bool { return reserve.size() == heapReserveSize })
	}
}

// withLargeHeap calls a function while 32 MiB are live.
func withLargeHeap(call func()) {
	large := make([]*[1 << 10]byte, 32<<10)
	for i := range large {
		large[i] = new([1 << 10]byte)
	}
	call()
	runtime.KeepAlive(large)
}

// collectUntil collects garbage until a condition holds. The test's own timeout ends it otherwise.
func collectUntil(t *testing.T, holds func() bool) {
	t.Helper()
	for !holds() {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
	}
}

// size returns how many bytes are reserved.
func (r *heapReserve) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.bytes)
}
