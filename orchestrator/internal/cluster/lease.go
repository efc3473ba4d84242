package cluster

import (
	"math"
	"sync/atomic"
	"time"
)

// over is the end of a lease that can't be extended any more.
const over = math.MinInt64

// lease is until when a member may act. Its methods may be called concurrently. Once it was seen to have ended it can't
// be extended any more, so that whoever stopped because of it can rely on that.
type lease struct {
	clock func() time.Duration
	until atomic.Int64
}

// valid returns whether the member may act. It takes one look at the clock.
func (l *lease) valid() bool { return int64(l.clock()) < l.until.Load() }

// extend sets the end of the lease, unless it ends later already, or was ended.
func (l *lease) extend(until time.Duration) {
	for {
		current := l.until.Load()
		if current == over || current >= int64(until) || l.until.CompareAndSwap(current, int64(until)) {
			return
		}
	}
}

// expire ends the lease if its time is over, and otherwise returns how long it still lasts.
func (l *lease) expire() (remaining time.Duration) {
	for {
		current := l.until.Load()
		if current == over {
			return 0
		}
		if remaining := time.Duration(current) - l.clock(); remaining > 0 {
			return remaining
		}
		if l.until.CompareAndSwap(current, over) {
			return 0
		}
	}
}

// end ends the lease.
func (l *lease) end() { l.until.Store(over) }
