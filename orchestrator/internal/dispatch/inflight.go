package dispatch

import (
	"context"
	"sync/atomic"
)

// inFlight counts the calls in flight, so that Close can wait for them.
type inFlight struct {
	n        atomic.Int64
	draining atomic.Bool

	// idle has room for one signal that the last call has ended.
	idle chan struct{}
}

func (f *inFlight) init() { f.idle = make(chan struct{}, 1) }

// enter begins a call, which ends with leave. It returns false once draining has begun.
func (f *inFlight) enter() bool {
	f.n.Add(1)
	if f.draining.Load() {
		f.leave()
		return false
	}
	return true
}

func (f *inFlight) leave() {
	if f.n.Add(-1) == 0 && f.draining.Load() {
		select {
		case f.idle <- struct{}{}:
		default:
		}
	}
}

// drain waits until no call is in flight, or until ctx ends. It returns how many calls are still in flight.
func (f *inFlight) drain(ctx context.Context) int64 {
	f.draining.Store(true)
	for {
		n := f.n.Load()
		if n == 0 {
			return 0
		}
		select {
		case <-f.idle:
		case <-ctx.Done():
			return f.n.Load()
		}
	}
}
