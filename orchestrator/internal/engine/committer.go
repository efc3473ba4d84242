package engine

import (
	"context"
	"sync"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// maxGroup bounds one group, so that a commit's latency and memory stay bounded.
const maxGroup = 1024

// committer makes turns durable in groups: while one group is being written, the next one gathers. It has one goroutine.
type committer struct {
	store    Store
	observer Observer

	mu      sync.Mutex
	waiting []*commit
	wake    chan struct{} // holds one token while there is something to do
	stop    chan struct{}
	stopped chan struct{}
}

// commit is one turn on its way into the store. It is used again for the next turn of the same saga.
type commit struct {
	entry journal.Entry
	err   error         // of the whole group
	done  chan struct{} // takes one token when the group is written, or isn't
}

func newCommitter(store Store, observer Observer) *committer {
	c := &committer{
		store: store, observer: observer,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go c.loop()
	return c
}

// commit returns once the turn is durable, or its group failed and nobody knows. It must not be called after close.
func (c *committer) commit(turn *commit) error {
	c.mu.Lock()
	c.waiting = append(c.waiting, turn)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
	<-turn.done
	return turn.err
}

// close returns once everything that was handed over is written.
func (c *committer) close() {
	close(c.stop)
	<-c.stopped
}

func (c *committer) loop() {
	defer close(c.stopped)
	var turns []*commit
	var group []*journal.Entry
	for {
		select {
		case <-c.wake:
		case <-c.stop:
			c.mu.Lock()
			rest := len(c.waiting)
			c.mu.Unlock()
			if rest == 0 {
				return
			}
		}
		for {
			turns, group = c.take(turns[:0], group[:0])
			if len(turns) == 0 {
				break
			}
			c.write(turns, group)
			clear(turns)
			clear(group)
		}
	}
}

func (c *committer) take(turns []*commit, group []*journal.Entry) ([]*commit, []*journal.Entry) {
	c.mu.Lock()
	n := min(len(c.waiting), maxGroup)
	turns = append(turns, c.waiting[:n]...)
	rest := copy(c.waiting, c.waiting[n:])
	clear(c.waiting[rest:])
	c.waiting = c.waiting[:rest]
	c.mu.Unlock()
	for _, turn := range turns {
		group = append(group, &turn.entry)
	}
	return turns, group
}

func (c *committer) write(turns []*commit, group []*journal.Entry) {
	began := time.Now()
	// The store's context has no end of its own: a group that is cut off leaves every saga in it in doubt.
	err := c.store.Append(context.Background(), group)
	if err == nil {
		c.observer.GroupCommitted(len(group), time.Since(began))
	}
	for _, turn := range turns {
		turn.err = err
		turn.done <- struct{}{}
	}
}
