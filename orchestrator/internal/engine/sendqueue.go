package engine

import "sync"

// maxBoundedSends is how many recovered and woken commands are in flight at the same time, so that a restart doesn't
// flood the participants.
const maxBoundedSends = 1024

// sendQueue holds the commands that wait until fewer are in flight.
type sendQueue struct {
	mu      sync.Mutex
	running int
	waiting []*delivery
}

// sendBounded sends a command on its own goroutine, or queues it while too many are in flight. It does nothing for nil.
func (s *sender) sendBounded(d *delivery) {
	if d == nil {
		return
	}
	q := &s.bounded
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.running >= maxBoundedSends {
		q.waiting = append(q.waiting, d)
		return
	}
	if s.work.spawn(func() { s.sendQueued(d) }) {
		q.running++
	}
}

// sendQueued sends a command, and then those that are queued.
func (s *sender) sendQueued(d *delivery) {
	q := &s.bounded
	for d != nil {
		s.send(d)
		q.mu.Lock()
		if n := len(q.waiting); n > 0 && !s.work.Closed() {
			d = q.waiting[n-1]
			q.waiting = q.waiting[:n-1]
		} else {
			d = nil
			q.running--
		}
		q.mu.Unlock()
	}
}
