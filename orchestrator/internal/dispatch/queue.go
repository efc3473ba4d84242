package dispatch

// queue holds parked calls, first in, first out. Any of them can leave at once. It isn't safe for concurrent use.
type queue struct {
	first, last *entry
	len         int
}

// entry is one parked call.
type entry struct {
	wake           func()
	before, behind *entry
	queued         bool
}

// push adds a call at the end.
func (q *queue) push(wake func()) *entry {
	e := &entry{wake: wake, before: q.last, queued: true}
	if q.last == nil {
		q.first = e
	} else {
		q.last.behind = e
	}
	q.last = e
	q.len++
	return e
}

// remove takes a call out, unless it has left already.
func (q *queue) remove(e *entry) {
	if !e.queued {
		return
	}
	if e.before == nil {
		q.first = e.behind
	} else {
		e.before.behind = e.behind
	}
	if e.behind == nil {
		q.last = e.before
	} else {
		e.behind.before = e.before
	}
	e.before, e.behind, e.queued = nil, nil, false
	q.len--
}

// take moves up to n calls from the front into a queue of their own, from which they can't be removed any more.
func (q *queue) take(n int) queue {
	var taken queue
	for ; n > 0 && q.first != nil; n-- {
		e := q.first
		q.remove(e)
		if taken.last == nil {
			taken.first = e
		} else {
			taken.last.behind = e
		}
		taken.last = e
		taken.len++
	}
	return taken
}

// wakeAll wakes the calls of a queue that was taken.
func (q queue) wakeAll() {
	for e := q.first; e != nil; e = e.behind {
		e.wake()
	}
}
