package cluster

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootTime returns the time since the machine was started. It goes on while the machine sleeps, and nobody sets it.
func bootTime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return wallTime()
	}
	return time.Duration(now.Nano())
}
