package quota

import (
	"context"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/rawcodec"
)

// Call is what one call holds. Reserve is called by one goroutine at a time; the other methods are safe for concurrent
// use.
type Call struct {
	quota *Quota
	took  chan struct{} // holds a token after the reader has taken something

	// The lock of the quota guards these.
	connection, caller *holder
	stream             int   // 1 if it counts as a stream
	bytes              int64 // reserved, or waiting until they are read
	closed             bool  // the call has ended
	gone               bool  // the connection has closed
	finished           bool  // nothing is counted any more
}

// Reserve waits for room for a number of bytes. The room must be closed. It returns ErrStalled if there is none for
// Limits.StalledAfter and the call's reader takes nothing meanwhile, ErrInterrupted if one of the channels is closed
// first, or the cause of the context's end.
func (c *Call) Reserve(ctx context.Context, bytes int64, interrupts ...<-chan struct{}) (*Room, error) {
	w := c.ask(bytes)
	if w == nil {
		return &Room{call: c, left: bytes}, nil
	}
	patience := time.NewTimer(c.quota.limits.StalledAfter)
	defer patience.Stop()
	var first, second <-chan struct{}
	if len(interrupts) > 0 {
		first = interrupts[0]
	}
	if len(interrupts) > 1 {
		second = interrupts[1]
	}
	for {
		select {
		case <-w.granted:
			return &Room{call: c, left: bytes}, nil
		case <-c.took:
			patience.Reset(c.quota.limits.StalledAfter)
			continue
		case <-patience.C:
			c.leave(w)
			return nil, ErrStalled
		case <-first:
		case <-second:
		case <-ctx.Done():
			c.leave(w)
			return nil, context.Cause(ctx)
		}
		c.leave(w)
		return nil, ErrInterrupted
	}
}

// ask reserves bytes, or returns who waits for them.
func (c *Call) ask(bytes int64) *waiter {
	q := c.quota
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-c.took: // before the wait
	default:
	}
	if c.gone || c.fits(bytes) {
		c.charge(bytes)
		return nil
	}
	w := &waiter{call: c, bytes: bytes, granted: make(chan struct{})}
	q.waiting = append(q.waiting, w)
	return w
}

// leave ends a wait.
func (c *Call) leave(w *waiter) {
	q := c.quota
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.granted: // just now
		c.charge(-w.bytes)
		q.admit()
		return
	default:
	}
	for i, other := range q.waiting {
		if other == w {
			q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			return
		}
	}
}

// fits returns whether there is room for more bytes. The caller holds the lock.
func (c *Call) fits(bytes int64) bool {
	return c.bytes <= callBytes && c.connection.fits(bytes) && c.caller.fits(bytes) && c.quota.total.fits(bytes)
}

// charge counts bytes, unless the connection has closed. The caller holds the lock.
func (c *Call) charge(bytes int64) {
	if c.gone {
		return
	}
	c.bytes += bytes
	c.connection.bytes += bytes
	c.caller.bytes += bytes
	c.quota.total.bytes += bytes
}

// count counts a stream, or one less. The caller holds the lock.
func (c *Call) count(streams int) {
	c.connection.streams += streams
	c.caller.streams += streams
	c.quota.total.streams += streams
}

// release gives bytes back.
func (c *Call) release(bytes int64) {
	q := c.quota
	q.mu.Lock()
	defer q.mu.Unlock()
	c.charge(-bytes)
	c.finish()
	q.admit()
}

// freed gives back bytes that the transport has written.
func (c *Call) freed(bytes int64) {
	select {
	case c.took <- struct{}{}:
	default:
	}
	c.release(bytes)
}

// Close ends the call. What it has sent counts until it was written.
func (c *Call) Close() {
	q := c.quota
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.count(-c.stream)
	c.finish()
}

// finish forgets a call that has ended and holds nothing. The caller holds the lock.
func (c *Call) finish() {
	if !c.closed || c.bytes > 0 || c.finished {
		return
	}
	c.finished = true
	delete(c.connection.calls, c)
	if c.connection.uses--; c.connection.uses == 0 {
		delete(c.quota.connections, c.connection.name)
	}
	if c.caller.uses--; c.caller.uses == 0 {
		delete(c.quota.callers, c.caller.name)
	}
}

// Room is what was reserved. It is used by one goroutine.
type Room struct {
	call *Call
	left int64
}

// Message returns a message to send, which takes its bytes out of the room. A message that is larger than the room that
// is left is counted all the same.
func (r *Room) Message(data []byte) *rawcodec.Held {
	if r.left -= int64(len(data)); r.left < 0 {
		r.call.release(r.left) // a negative number
		r.left = 0
	}
	return rawcodec.NewHeld(data, func(bytes int) { r.call.freed(int64(bytes)) })
}

// Close gives back what wasn't used.
func (r *Room) Close() {
	if r.left > 0 {
		r.call.release(r.left)
		r.left = 0
	}
}
