package cluster

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func systemBootTime(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}

// The derived clock agrees with the system's, also after a sleep, which is seen by the distance of the other clocks.
func TestBootTime(t *testing.T) {
	wall := time.Duration(start.UnixNano())
	for name, last := range map[string]*clocks{
		"first look": nil,
		"the machine has slept since the last look": {wall: wall - time.Hour, boot: -time.Hour},
		"the wall clock was set back":               {wall: wall + time.Hour, boot: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			compared.Store(last)
			for range 1000 {
				before := systemBootTime(t)
				got := bootTime()
				after := systemBootTime(t)
				if got < before-clockTolerance || got > after+clockTolerance {
					t.Fatalf("the time since the machine was started is %v, want one from %v to %v", got, before, after)
				}
			}
		})
	}
	kept := compared.Load()
	bootTime()
	if compared.Load() != kept {
		t.Error("the clocks were compared although nothing has happened")
	}
}
