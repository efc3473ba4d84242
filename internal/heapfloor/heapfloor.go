// Package heapfloor makes Go collect garbage less often while the heap is small. A server whose live heap has some
// megabytes is otherwise collected many times a second under load.
//
// A floor says how many bytes are allocated between two collections, at least. Go alone lets as many bytes be allocated
// as are live. With a floor, it is whichever is more: a small heap is collected far less often, one that is larger than
// the floor as often as before, and no heap grows by more than the floor. It is a setting of the whole process: after
// each collection, the percentage of the garbage collector is set to what the live heap needs for it.
package heapfloor

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Default is the floor that Hold uses for 0, in bytes.
const Default = 24 << 20

const (
	// usual is the garbage collector's percentage of a program that sets none.
	usual = 100

	// smallest is the heap's size in bytes below which Go doesn't collect at a percentage of 100. It grows with the
	// percentage, as if the live heap had this size.
	smallest = 4 << 20

	// largest is the largest percentage that is set.
	largest = 1 << 20
)

// process is what this process holds.
var process floors

// Hold lets a number of bytes be allocated between two garbage collections, at least, until release is called. 0 is
// Default, and a negative number is no floor. The highest floor counts while several are held in one process. Calling
// release again does nothing. Both may be called concurrently.
//
// Hold does nothing if the program has configured its garbage collector: with GOGC or GOMEMLIMIT in the environment, or
// with [debug.SetGCPercent] or [debug.SetMemoryLimit]. A program that does so later takes the setting over; what it set
// stays.
func Hold(bytes int64) (release func()) {
	switch {
	case bytes < 0:
		return func() {}
	case bytes == 0:
		bytes = Default
	}
	return process.hold(bytes)
}

// floors sets the garbage collector's percentage for the floors that are held. The zero value holds none.
type floors struct {
	mu       sync.Mutex
	held     map[*int64]struct{}
	percent  int  // that was set last
	watching bool // the percentage is adjusted after each collection
}

func (f *floors) hold(bytes int64) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.held) == 0 {
		if isConfigured() {
			return func() {}
		}
		f.held, f.percent = make(map[*int64]struct{}), usual
	}
	floor := &bytes
	f.held[floor] = struct{}{}
	f.adjust()
	if !f.watching {
		f.watching = true
		f.watch()
	}
	return func() { f.release(floor) }
}

func (f *floors) release(floor *int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, holds := f.held[floor]; holds {
		delete(f.held, floor)
		f.adjust()
	}
}

// watch adjusts the percentage after each collection, beginning with the next one, for as long as a floor is held.
func (f *floors) watch() {
	sentinel := new(*floors) // has a pointer, so that it doesn't share its memory with other small values
	runtime.AddCleanup(sentinel, (*floors).collected, f)
}

// collected is called after a collection.
func (f *floors) collected() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watching = len(f.held) > 0; !f.watching {
		return
	}
	f.adjust()
	f.watch()
}

// adjust sets the percentage for the highest floor and the heap as it is. The caller holds the lock.
func (f *floors) adjust() {
	var floor int64
	for held := range f.held {
		floor = max(floor, *held)
	}
	now := readHeap()
	switch {
	case now.percent != f.percent:
		clear(f.held) // the program has set a percentage: from now on, it decides
		return
	case now.hasLimit:
		clear(f.held)
		floor = 0
	}
	percent := percentFor(floor, now)
	if far(percent, f.percent) {
		debug.SetGCPercent(percent)
		f.percent = percent
	}
}

// far returns whether it is worth to set a percentage anew, which stops the program for some microseconds.
func far(percent, now int) bool {
	return percent != now && (percent == usual || percent-now > now/8 || now-percent > now/8)
}

// heap is what the garbage collector says of the heap and of its settings.
type heap struct {
	live, roots uint64 // bytes; roots are stacks and global variables
	percent     int    // negative if the collector is off
	hasLimit    bool   // of memory
}

func readHeap() heap {
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"},
		{Name: "/gc/gogc:percent"}, {Name: "/gc/gomemlimit:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) uint64 { return samples[i].Value.Uint64() }
	return heap{
		live: value(0), roots: value(1) + value(2), percent: int(value(3)), hasLimit: value(4) < math.MaxInt64,
	}
}

// isConfigured returns whether the program has configured its garbage collector.
func isConfigured() bool {
	h := readHeap()
	return os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" || h.percent != usual || h.hasLimit
}

// percentFor returns the percentage at which Go lets at least as many bytes as the floor be allocated between two
// collections.
func percentFor(floor int64, h heap) int {
	// Go collects at live + (live + roots) * percent / 100 bytes, and not below smallest * percent / 100.
	scanned := max(1, float64(h.live+h.roots))
	allocated := max(scanned, float64(floor))
	byLive := allocated / scanned
	bySize := (float64(h.live) + allocated) / smallest
	return int(min(max(usual, 100*min(byLive, bySize)), largest))
}
