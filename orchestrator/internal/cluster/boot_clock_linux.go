package cluster

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// start is when the process started, by its monotonic clock, which stands still while the machine sleeps.
var start = time.Now()

// clocks is how far apart the machine's clocks were when they were compared last.
type clocks struct {
	wall time.Duration // the wall clock, minus the monotonic clock
	boot time.Duration // the time since the machine was started, minus the monotonic clock
}

var compared atomic.Pointer[clocks]

// clockTolerance is how far the wall clock and the monotonic clock may move apart until all are compared again.
const clockTolerance = time.Millisecond

// bootTime returns the time since the machine was started. It goes on while the machine sleeps, and nobody sets it.
//
// Reading that clock is a system call, and this is asked before each send. So it is derived from the monotonic clock,
// which the process reads without one. When the machine has slept, or the wall clock was set, the distance between
// these two has changed, and all clocks are read again.
func bootTime() time.Duration {
	now := time.Now()
	monotonic := now.Sub(start)
	wall := time.Duration(now.UnixNano()) - monotonic
	if last := compared.Load(); last != nil && (wall-last.wall).Abs() < clockTolerance {
		return monotonic + last.boot
	}
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return wallTime()
	}
	// The machine may have slept since now was read. Then the time that is returned is right, and what is kept isn't
	// used: the distance will have changed.
	compared.Store(&clocks{wall: wall, boot: time.Duration(boot.Nano()) - monotonic})
	return time.Duration(boot.Nano())
}
