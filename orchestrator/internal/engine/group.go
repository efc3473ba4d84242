package engine

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// maxGroup is how many turns one group has at most. It bounds the latency and the memory of a commit.
const maxGroup = 1024

const (
	// maxYields is how often the processor is yielded for a group at most.
	maxYields = 16

	// maxGathering is how long the processor is yielded for a group. Yielding once may take longer.
	maxGathering = time.Millisecond
)

// groupCommitter commits turns in groups: while one group is being written, the next one gathers. Before it is written,
// sagas that can run join it. It has one goroutine.
type groupCommitter struct {
	store    Store
	observer Observer
	writable *writable
	fenced   func() // see Config.Fenced

	mu      sync.Mutex
	waiting []*pendingTurn
	wake    chan struct{} // holds one token while turns are waiting
	stop    chan struct{}
	stopped chan struct{}
}

// pendingTurn is an entry that waits for its group to be committed. A saga reuses it for its next turn.
type pendingTurn struct {
	entry journal.Entry
	err   error         // of the whole group
	done  chan struct{} // receives one token when the commit of the group has returned
}

func newGroupCommitter(store Store, observer Observer, writable *writable, fenced func()) *groupCommitter {
	c := &groupCommitter{
		store: store, observer: observer, writable: writable, fenced: fenced,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go c.loop()
	return c
}

// commit returns once the turn is durable. An error other than journal.ErrFenced means that the commit of its group
// failed, so that it isn't known whether the turn is durable. It must not be called after close.
func (c *groupCommitter) commit(turn *pendingTurn) error {
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

// close returns once all turns are written.
func (c *groupCommitter) close() {
	close(c.stop)
	<-c.stopped
}

func (c *groupCommitter) loop() {
	defer close(c.stopped)
	var turns []*pendingTurn
	var group []*journal.Entry
	for {
		select {
		case <-c.wake:
		case <-c.stop:
			if c.count() == 0 {
				return
			}
		}
		for {
			c.gather()
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

// gather lets the goroutines that can run go on, for as long as that brings more turns for the next group. A commit of
// its own costs each of them far more. If there are no others, it returns at once.
func (c *groupCommitter) gather() {
	began := time.Now()
	before, now := 0, c.count()
	for range maxYields {
		if now == before || now >= maxGroup || time.Since(began) >= maxGathering {
			return
		}
		runtime.Gosched()
		before, now = now, c.count()
	}
}

// count returns how many turns are waiting.
func (c *groupCommitter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}

// take moves the next group from the waiting turns into the slices.
func (c *groupCommitter) take(turns []*pendingTurn, group []*journal.Entry) ([]*pendingTurn, []*journal.Entry) {
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

func (c *groupCommitter) write(turns []*pendingTurn, group []*journal.Entry) {
	began := time.Now()
	// No deadline: a group that is cut off leaves all of its sagas in doubt.
	err := c.store.Append(context.Background(), group)
	if err == nil {
		c.observer.GroupCommitted(len(group), time.Since(began))
	}
	c.writable.noted(err)
	if errors.Is(err, journal.ErrFenced) {
		c.fenced()
	}
	for _, turn := range turns {
		turn.err = err
		turn.done <- struct{}{}
	}
}
