package main

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
)

// usage is what a process has used since its start.
type usage struct {
	CPU     time.Duration `json:"cpu"`
	Bytes   uint64        `json:"bytes"`   // allocated on the heap
	Objects uint64        `json:"objects"` // allocated on the heap
}

// ownUsage is what this process has used so far.
func ownUsage() (usage, error) {
	var times syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &times); err != nil {
		return usage{}, fmt.Errorf("reading the processor time: %w", err)
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return usage{
		CPU:   time.Duration(times.Utime.Nano() + times.Stime.Nano()),
		Bytes: memory.TotalAlloc, Objects: memory.Mallocs,
	}, nil
}

// since is what was used after an earlier moment.
func (u usage) since(earlier usage) usage {
	return usage{CPU: u.CPU - earlier.CPU, Bytes: u.Bytes - earlier.Bytes, Objects: u.Objects - earlier.Objects}
}
