package admission

import (
	"container/heap"
	"slices"
	"time"
)

// Class orders the commands that wait. Lower classes are first.
type Class int

// The classes.
const (
	// Undo is a compensation.
	Undo Class = iota

	// Begun is a command of a saga that has the result of another one.
	Begun

	// First is a command of a saga that has no result yet.
	First

	classes
)

// Claim says which command wants a slot.
type Claim struct {
	// Class is the command's class.
	Class Class

	// Definition is the definition of the command's saga.
	Definition string

	// Start is when the saga started.
	Start time.Time
}

// waiter is a command that waits.
type waiter struct {
	claim   Claim
	since   time.Time
	number  uint64 // of the waiter, to keep the order of those whose sagas started at the same time
	granted func(*Slot)
	group   *group
	index   int // in the group's heap; -1 once it doesn't wait any more
}

// queue holds the commands that wait.
type queue struct {
	groups map[groupKey]*group
	turns  [classes]turns
	len    int
	number uint64
}

// group holds the commands of one class, method and definition, by the starts of their sagas.
type group struct {
	key     groupKey
	waiters []*waiter
}

type groupKey struct {
	class      Class
	method     *Method
	definition string
}

// turns are the groups of a class, in the order in which they take turns.
type turns struct {
	groups []*group
	next   int
}

func (q *queue) add(m *Method, claim Claim, granted func(*Slot)) *waiter {
	key := groupKey{claim.Class, m, claim.Definition}
	g := q.groups[key]
	if g == nil {
		g = &group{key: key}
		if q.groups == nil {
			q.groups = make(map[groupKey]*group)
		}
		q.groups[key] = g
		t := &q.turns[claim.Class]
		t.groups = append(t.groups, g)
	}
	q.number++
	w := &waiter{claim: claim, since: time.Now(), number: q.number, granted: granted, group: g}
	heap.Push(g, w)
	q.len++
	return w
}

// remove removes a waiter, unless it doesn't wait any more.
func (q *queue) remove(w *waiter) {
	if w.index < 0 {
		return
	}
	g := w.group
	heap.Remove(g, w.index)
	q.len--
	if len(g.waiters) == 0 {
		delete(q.groups, g.key)
		t := &q.turns[g.key.class]
		at := slices.Index(t.groups, g)
		t.groups = slices.Delete(t.groups, at, at+1)
		if at < t.next {
			t.next--
		}
	}
}

// next returns the waiter whose turn it is among those for whose method there is room, or nil.
func (q *queue) next(hasRoom func(*Method) bool) *waiter {
	for class := range q.turns {
		t := &q.turns[class]
		for i := range t.groups {
			at := (t.next + i) % len(t.groups)
			if g := t.groups[at]; hasRoom(g.key.method) {
				t.next = at + 1
				return g.waiters[0]
			}
		}
	}
	return nil
}

// waitsSince returns since when the waiter of a class and definition waits that is next. It returns false if there is
// none.
func (q *queue) waitsSince(class Class, definition string) (since time.Time, waits bool) {
	for _, g := range q.turns[class].groups {
		if g.key.definition == definition && !g.key.method.parked && (!waits || g.waiters[0].since.Before(since)) {
			since, waits = g.waiters[0].since, true
		}
	}
	return since, waits
}

// Len implements heap.Interface.
func (g *group) Len() int { return len(g.waiters) }

// Less implements heap.Interface.
func (g *group) Less(i, j int) bool {
	a, b := g.waiters[i], g.waiters[j]
	if !a.claim.Start.Equal(b.claim.Start) {
		return a.claim.Start.Before(b.claim.Start)
	}
	return a.number < b.number
}

// Swap implements heap.Interface.
func (g *group) Swap(i, j int) {
	g.waiters[i], g.waiters[j] = g.waiters[j], g.waiters[i]
	g.waiters[i].index, g.waiters[j].index = i, j
}

// Push implements heap.Interface.
func (g *group) Push(x any) {
	w := x.(*waiter) //nolint:forcetypeassert // only add pushes
	w.index = len(g.waiters)
	g.waiters = append(g.waiters, w)
}

// Pop implements heap.Interface.
func (g *group) Pop() any {
	last := len(g.waiters) - 1
	w := g.waiters[last]
	g.waiters[last] = nil
	g.waiters = g.waiters[:last]
	w.index = -1
	return w
}
