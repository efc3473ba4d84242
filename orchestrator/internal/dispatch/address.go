package dispatch

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
)

// addressContracts is what is known of the contracts at one address.
type addressContracts struct {
	contracts *contracts // of the participant; nil if they aren't checked

	// verdict is nil until the contracts were compared on the present connection.
	verdict atomic.Pointer[verdict]

	// stated is set when the address has stated the digest of its contracts.
	stated atomic.Bool

	// asking is held while the address is asked, so that one question answers all who need it.
	asking sync.Mutex
}

// unchecked returns whether commands have to wait until the contracts were compared.
func (a *addressContracts) unchecked() bool { return a.contracts != nil && a.verdict.Load() == nil }

// blocks returns whether a method must not be called here. It takes one atomic load.
func (a *addressContracts) blocks(method string) bool {
	v := a.verdict.Load()
	return v != nil && v.blocks(method)
}

// checkContracts asks for the contracts until ctx ends or there is nothing more to learn on this connection. Contracts
// that have drifted are asked for again, unless the address has stated their digest: behind a balancer, another process
// may answer.
func (c *subConn) checkContracts(ctx context.Context) {
	delay := initialContractsDelay
	for {
		v := c.compareContracts(ctx)
		if ctx.Err() != nil {
			return
		}
		pause := delay
		switch {
		case v.problem == "" && (len(v.blocked) == 0 || c.stated.Load()), v.problem != "" && v.final:
			return
		case v.problem == "":
			pause = c.contracts.driftedAfter
		default:
			delay = min(2*delay, maxContractsDelay)
		}
		if !sleep(ctx, pause) {
			return
		}
	}
}

// compareContracts asks for the contracts, unless they are known by their digest.
func (c *subConn) compareContracts(ctx context.Context) *verdict {
	c.asking.Lock()
	defer c.asking.Unlock()
	if v := c.verdict.Load(); v != nil && c.stated.Load() {
		return v
	}
	var v *verdict
	_ = c.withConn(func(conn grpc.ClientConnInterface) error {
		v = c.contracts.ask(ctx, conn)
		return nil
	})
	c.settleContracts(ctx, v)
	return v
}

// greeted takes note of the digest that the address states when a stream of commands is opened. It asks for the
// contracts only if they have changed.
func (c *subConn) greeted(ctx context.Context, conn grpc.ClientConnInterface, digest string) {
	if c.contracts == nil || digest == "" {
		return
	}
	c.asking.Lock()
	defer c.asking.Unlock()
	v := c.contracts.lookup(digest)
	if v == nil {
		if v = c.contracts.ask(ctx, conn); v.problem == "" {
			c.contracts.remember(digest, v)
		}
	}
	c.stated.Store(v.problem == "")
	c.settleContracts(ctx, v)
}

// settleContracts takes note of the verdict, and lets commands go that waited for it.
func (c *subConn) settleContracts(ctx context.Context, v *verdict) {
	c.mu.Lock()
	current := c.ctx == ctx && ctx.Err() == nil
	if current {
		c.verdict.Store(v)
	}
	c.mu.Unlock()
	if current {
		c.contracts.settle(ctx, v)
		c.policy.refresh()
	}
}

// loseContracts takes note that the connection is gone. Whoever answers on the next one may have other contracts. The
// caller holds the lock.
func (c *subConn) loseContracts(ctx context.Context) {
	if c.contracts == nil {
		return
	}
	c.verdict.Store(nil)
	c.stated.Store(false)
	c.policy.run(func() { c.contracts.forget(ctx) })
}

// await waits until a channel is closed or ctx ends.
func await(ctx context.Context, closed <-chan struct{}) {
	select {
	case <-closed:
	case <-ctx.Done():
	}
}
