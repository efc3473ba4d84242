package inbox

import (
	"context"
	"slices"
	"sync"
	"time"
)

// turns is the queue of all that writes to one database through its inboxes. Whoever has the turn may have a
// transaction. Calls wait here in the order of their arrival, without polling for the database's lock.
type turns struct {
	guard *guard

	mu      sync.Mutex
	taken   bool
	queue   []*turn
	waiting func(n int) // Called with the length of the queue when it grows, for tests.
}

// turn is a call's place in the queue.
type turn struct {
	joins bool        // Whether it may be part of a batch.
	ready chan *batch // Receives the batch to join, or nil when the turn is the call's own.
	long  *time.Timer // Until the call finds out whether a handler has made it.
}

// places are used again by calls that wait.
var places = sync.Pool{New: func() any {
	long := time.NewTimer(nestedAfter)
	long.Stop()
	return &turn{ready: make(chan *batch, 1), long: long}
}}

// nestedAfter is how long a call waits for its turn before it finds out whether a handler has made it. Many calls wait
// for a short time, and looking at the stack costs more than that.
const nestedAfter = 100 * time.Millisecond

// take waits for the turn of a transaction of its own.
func (t *turns) take(ctx context.Context) error {
	_, err := t.wait(ctx, false)
	return err
}

// join waits for the turn of a call that may be part of a batch. It returns the batch to join, or nil if the call has
// to begin one.
func (t *turns) join(ctx context.Context) (*batch, error) { return t.wait(ctx, true) }

func (t *turns) wait(ctx context.Context, joins bool) (*batch, error) {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return nil, nil
	}
	own, _ := places.Get().(*turn)
	own.joins = joins
	defer places.Put(own)
	t.queue = append(t.queue, own)
	if t.waiting != nil {
		t.waiting(len(t.queue))
	}
	t.mu.Unlock()
	own.long.Reset(nestedAfter)
	defer own.long.Stop()
	for {
		select {
		case b := <-own.ready:
			return b, nil
		case <-ctx.Done():
			return nil, t.leave(own, ctx.Err())
		case <-own.long.C:
			if err := t.guard.nested(); err != nil {
				return nil, t.leave(own, err)
			}
		}
	}
}

// leave takes a call out of the queue. If its turn has come meanwhile, the next one has it.
func (t *turns) leave(own *turn, err error) error {
	t.mu.Lock()
	at := slices.Index(t.queue, own)
	if at >= 0 {
		t.queue = slices.Delete(t.queue, at, at+1)
	}
	t.mu.Unlock()
	if at >= 0 {
		return err
	}
	if b := <-own.ready; b != nil {
		b.pass()
	} else {
		t.give()
	}
	return err
}

// give hands the turn on.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 {
		t.taken = false
		return
	}
	t.next() <- nil
}

// giveTo hands the turn on within a batch. It reports whether there was a call that may join it.
func (t *turns) giveTo(b *batch) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queue) == 0 || !t.queue[0].joins {
		return false
	}
	t.next() <- b
	return true
}

// next takes the first call out of the queue.
func (t *turns) next() chan<- *batch {
	first := t.queue[0]
	t.queue[0] = nil
	t.queue = t.queue[1:]
	if len(t.queue) == 0 {
		t.queue = nil
	}
	return first.ready
}
