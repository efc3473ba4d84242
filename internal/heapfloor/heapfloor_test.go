package heapfloor

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestPercent(t *testing.T) {
	const mb = 1 << 20
	for _, test := range []struct {
		name        string
		floor       int64
		live, roots uint64
		want        int
	}{
		{"no floor", 0, 4 * mb, 0, 100},
		{"an empty heap", 16 * mb, 0, 0, 400},
		{"an eighth of the floor", 16 * mb, 2 * mb, 0, 450},
		{"half of the floor", 16 * mb, 8 * mb, 0, 200},
		{"half of the floor, with roots", 16 * mb, 4 * mb, 4 * mb, 200},
		{"as large as the floor", 16 * mb, 16 * mb, 0, 100},
		{"larger than the floor", 16 * mb, 1600 * mb, 0, 100},
		{"a floor that is less than Go's own", 1 * mb, 0, 0, 100},
		{"a floor that is out of reach", math.MaxInt64, 1, 0, largest},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := percentFor(test.floor, heap{live: test.live, roots: test.roots}); got != test.want {
				t.Errorf("the percentage is %d, want %d", got, test.want)
			}
		})
	}
}

// TestHold tests that the percentage is raised while a floor is held, and is Go's own again after the last one.
func TestHold(t *testing.T) {
	unconfigured(t)
	release := Hold(0)
	settle(t, "one floor", func(percent int) bool { return percent > usual })
	one := readHeap().percent
	second := Hold(4 * Default)
	settle(t, "two floors, of which the higher one counts", func(percent int) bool { return percent > 2*one })
	second()
	second() // does nothing: the first one is still held
	settle(t, "the first floor", func(percent int) bool { return percent > usual && percent < 2*one })
	release()
	if got := readHeap().percent; got != usual {
		t.Errorf("after the last release, the percentage is %d, want %d", got, usual)
	}
	again := Hold(0)
	settle(t, "a floor again", func(percent int) bool { return percent > usual })
	again()
}

// TestFloorIsReached tests that the runtime lets as many bytes be allocated as the floor says. The percentage that it
// takes depends on how the runtime computes its goal.
func TestFloorIsReached(t *testing.T) {
	unconfigured(t)
	defer Hold(0)()
	settle(t, "the goal", func(int) bool {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		h := readHeap()
		more := int64(stats.NextGC) - int64(2*h.live+h.roots) // than without a floor
		return more > Default*7/8 && more < Default*5/4
	})
}

// TestLargeHeap tests that a heap that grows or shrinks isn't collected by the percentage of its former size.
func TestLargeHeap(t *testing.T) {
	unconfigured(t)
	defer Hold(0)()
	for range 2 {
		large := make([]*[1 << 10]byte, 64<<10)
		for i := range large {
			large[i] = new([1 << 10]byte)
		}
		settle(t, "with a large heap", func(percent int) bool { return percent < 140 })
		runtime.KeepAlive(large)
		settle(t, "with a small heap", func(percent int) bool { return percent > 250 })
	}
}

// TestConfigured tests that what a program sets for itself stays, whether it does so before or after.
func TestConfigured(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(t *testing.T)
		want int
	}{
		{"GOGC", func(t *testing.T) { t.Setenv("GOGC", "100") }, usual},
		{"GOMEMLIMIT", func(t *testing.T) { t.Setenv("GOMEMLIMIT", "100MiB") }, usual},
		{"SetGCPercent", func(*testing.T) { debug.SetGCPercent(150) }, 150},
		{"SetGCPercent, off", func(*testing.T) { debug.SetGCPercent(-1) }, -1},
		{"SetMemoryLimit", func(*testing.T) { debug.SetMemoryLimit(1 << 40) }, usual},
	} {
		t.Run(test.name+" before", func(t *testing.T) {
			unconfigured(t)
			test.set(t)
			release := Hold(0)
			if got := readHeap().percent; got != test.want {
				t.Errorf("the percentage is %d, want %d", got, test.want)
			}
			release()
			if got := readHeap().percent; got != test.want {
				t.Errorf("after the release, the percentage is %d, want %d", got, test.want)
			}
		})
		if test.name == "GOGC" || test.name == "GOMEMLIMIT" {
			continue // they count when the process starts
		}
		t.Run(test.name+" after", func(t *testing.T) {
			unconfigured(t)
			release := Hold(0)
			settle(t, "the floor", func(percent int) bool { return percent > usual })
			test.set(t)
			settle(t, "what the program set", func(percent int) bool {
				return percent == test.want && !process.holds()
			})
			release()
			if got := readHeap().percent; got != test.want {
				t.Errorf("after the release, the percentage is %d, want %d", got, test.want)
			}
		})
	}
}

func TestNoFloor(t *testing.T) {
	unconfigured(t)
	Hold(-1)()
	if process.holds() || readHeap().percent != usual {
		t.Error("a negative floor is held")
	}
}

// unconfigured gives the garbage collector its usual settings, and restores those of the test's process at the end.
func unconfigured(t *testing.T) {
	t.Helper()
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	percent, limit := debug.SetGCPercent(usual), debug.SetMemoryLimit(math.MaxInt64)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
}

// settle collects garbage until the percentage is as it should be.
func settle(t *testing.T, what string, reached func(percent int) bool) {
	t.Helper()
	for range 10_000 {
		if reached(readHeap().percent) {
			return
		}
		runtime.GC()
	}
	t.Fatalf("%s: after 10,000 collections, the percentage is %d", what, readHeap().percent)
}

func (f *floors) holds() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.held) > 0
}
