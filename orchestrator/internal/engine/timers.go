package engine

import (
	"context"
	"sync"
	"time"
)

// horizon is how far ahead timers are kept in memory. Later ones stay in the store until it reaches them.
const horizon = time.Minute

// timers wake sagas when they are due.
type timers struct {
	clock Clock
	store Store
	fire  func(id string) // doesn't block
	fail  func(error)

	mu      sync.Mutex
	armed   map[string]*timer
	until   time.Time           // everything due before is armed
	newer   map[string]struct{} // whose timers were set while a scan reads the store; nil while none does
	stop    func() bool
	stopped bool
}

type timer struct {
	due  time.Time
	stop func() bool
}

// arm sees to it that the saga is woken at due and at no other time; zero means never.
func (t *timers) arm(id string, due time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.newer != nil {
		t.newer[id] = struct{}{}
	}
	t.set(id, due)
}

// set is arm for who holds the lock.
func (t *timers) set(id string, due time.Time) {
	old := t.armed[id]
	if old != nil && old.due.Equal(due) {
		return
	}
	if old != nil {
		old.stop()
		delete(t.armed, id)
	}
	if due.IsZero() || due.After(t.until) || t.stopped {
		return
	}
	if !due.After(t.clock.Now()) {
		t.fire(id)
		return
	}
	next := &timer{due: due}
	next.stop = t.clock.AfterFunc(due.Sub(t.clock.Now()), func() {
		t.mu.Lock()
		if t.armed[id] != next || t.stopped {
			t.mu.Unlock()
			return // it was set anew
		}
		delete(t.armed, id)
		if due.After(t.clock.Now()) {
			t.set(id, due) // the clock was put back
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		t.fire(id)
	})
	t.armed[id] = next
}

// scan arms what becomes due within the horizon, and does so again before the horizon is reached.
func (t *timers) scan() {
	now := t.clock.Now()
	t.mu.Lock()
	if t.stopped {
		t.mu.Unlock()
		return
	}
	t.until = now.Add(2 * horizon)
	until := t.until
	t.newer = make(map[string]struct{})
	t.mu.Unlock()
	due, err := t.store.Due(context.Background(), until, 1<<20)
	if err != nil {
		t.fail(err)
	}
	for _, d := range due {
		t.mu.Lock()
		// What was set meanwhile is newer than what was read.
		if _, newer := t.newer[d.Saga]; !newer {
			t.set(d.Saga, d.Time)
		}
		t.mu.Unlock()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.newer = nil
	if !t.stopped {
		t.stop = t.clock.AfterFunc(horizon, t.scan)
	}
}

func (t *timers) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopped = true
	if t.stop != nil {
		t.stop()
	}
	for id, armed := range t.armed {
		armed.stop()
		delete(t.armed, id)
	}
}
