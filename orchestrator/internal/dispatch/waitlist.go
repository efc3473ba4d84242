package dispatch

// waitlist holds functions to call when something has happened, first in, first out. Each can be removed at any time.
// It isn't safe for concurrent use.
type waitlist struct {
	first, last *waiter
	len         int
}

// waiter is an element of a waitlist.
type waiter struct {
	wake           func()
	previous, next *waiter
	listed         bool
}

// add appends a function.
func (l *waitlist) add(wake func()) *waiter {
	w := &waiter{wake: wake, previous: l.last, listed: true}
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
	l.len++
	return w
}

// remove removes a function, unless it was removed or taken before.
func (l *waitlist) remove(w *waiter) {
	if !w.listed {
		return
	}
	if w.previous == nil {
		l.first = w.next
	} else {
		w.previous.next = w.next
	}
	if w.next == nil {
		l.last = w.previous
	} else {
		w.next.previous = w.previous
	}
	w.previous, w.next, w.listed = nil, nil, false
	l.len--
}

// take removes up to n functions from the front and returns them. They can't be removed from the list that is returned.
func (l *waitlist) take(n int) waitlist {
	var taken waitlist
	for ; n > 0 && l.first != nil; n-- {
		w := l.first
		l.remove(w)
		if taken.last == nil {
			taken.first = w
		} else {
			taken.last.next = w
		}
		taken.last = w
		taken.len++
	}
	return taken
}

// wakeAll calls the functions of a list that take returned.
func (l waitlist) wakeAll() {
	for w := l.first; w != nil; w = w.next {
		w.wake()
	}
}
