package engine

import "sync"

// maxWaking is how many sagas are woken at the same time.
const maxWaking = 64

// wakeQueue holds the sagas to wake. However many become due at the same time, only a few are loaded at once.
type wakeQueue struct {
	wake func(id string)

	mu      sync.Mutex
	waiting []string
	known   map[string]struct{} // the sagas in the queue
	working int
}

// add queues a saga. It doesn't block. A saga that is queued already isn't queued twice.
func (q *wakeQueue) add(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, known := q.known[id]; known {
		return
	}
	if q.known == nil {
		q.known = make(map[string]struct{})
	}
	q.known[id] = struct{}{}
	q.waiting = append(q.waiting, id)
	if q.working < maxWaking {
		q.working++
		go q.work()
	}
}

func (q *wakeQueue) work() {
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.working--
			q.waiting, q.known = nil, nil
			q.mu.Unlock()
			return
		}
		id := q.waiting[0]
		q.waiting = q.waiting[1:]
		delete(q.known, id)
		q.mu.Unlock()
		q.wake(id)
	}
}
