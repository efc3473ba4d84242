package cluster

import (
	"context"
	"sync/atomic"
)

// Holding is a shard that this instance drives, from Config.Acquired to Config.Lost. All methods may be called
// concurrently.
type Holding struct {
	// Claim says which shard, and under which epoch.
	Claim

	// Member is the id under which this instance owns the shard. Commits name it. It changes when the instance loses
	// its lease and joins again.
	Member string

	lease   *lease
	fenced  atomic.Bool
	wake    func()
	context context.Context
	cancel  context.CancelFunc
	stopped chan struct{}
}

// Valid returns whether this instance may act for the shard: whether its lease lasts, and nobody has found out that the
// shard has another owner. It is cheap: a look at the clock, without a lock. Ask before every send. After it was false
// once, it is never true again.
func (h *Holding) Valid() bool { return !h.fenced.Load() && h.lease.valid() }

// Fenced says that a commit of the shard was refused, since the shard has another owner or the member was fenced. Valid
// is false from then on, and Lost is called soon.
func (h *Holding) Fenced() {
	h.lose()
	h.wake()
}

// lose ends the holding at once.
func (h *Holding) lose() {
	h.fenced.Store(true)
	h.cancel()
}

// isStopped returns whether Lost has returned.
func (h *Holding) isStopped() bool {
	select {
	case <-h.stopped:
		return true
	default:
		return false
	}
}
