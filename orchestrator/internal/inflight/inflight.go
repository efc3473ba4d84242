// Package inflight counts work in flight, so that a component that stops can refuse new work and wait for the rest.
package inflight

import (
	"context"
	"sync/atomic"
)

// Counter counts work in flight. All methods may be called concurrently, on the hot path too. Use New.
type Counter struct {
	n      atomic.Int64
	closed atomic.Bool
	idle   chan struct{} // has room for one signal that n fell to zero after Close
}

// New returns a counter that is open.
func New() *Counter { return &Counter{idle: make(chan struct{}, 1)} }

// Enter begins a piece of work. It returns false once the counter is closed. Otherwise the caller must call Leave when
// the work ends.
func (c *Counter) Enter() bool {
	c.n.Add(1)
	if c.closed.Load() {
		c.Leave()
		return false
	}
	return true
}

// Leave ends a piece of work.
func (c *Counter) Leave() {
	if c.n.Add(-1) == 0 && c.closed.Load() {
		select {
		case c.idle <- struct{}{}:
		default:
		}
	}
}

// Close refuses further work. It returns false if the counter was closed before.
func (c *Counter) Close() bool { return !c.closed.Swap(true) }

// Closed returns whether Close was called.
func (c *Counter) Closed() bool { return c.closed.Load() }

// Wait waits until no work is in flight or ctx ends, and returns how much is left. Call it after Close, from one
// goroutine at a time.
func (c *Counter) Wait(ctx context.Context) int64 {
	for {
		if c.n.Load() == 0 {
			return 0
		}
		select {
		case <-c.idle:
		case <-ctx.Done():
			return c.n.Load()
		}
	}
}
