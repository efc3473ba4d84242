package engine

import (
	"sync"
	"time"
)

// repeatInterval is the shortest time between two log lines that say the same of different sagas.
const repeatInterval = 10 * time.Second

// repeated limits log lines that say the same of many sagas, such as that the store is full: there is one every
// repeatInterval, with the number of lines that were left out since the last one. The zero value is ready to use. All
// methods may be called concurrently.
type repeated struct {
	mu      sync.Mutex
	last    time.Time
	leftOut int
}

// due returns whether a line is to be logged now, and how many were left out since the last one.
func (r *repeated) due() (leftOut int, due bool) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.last.IsZero() && now.Sub(r.last) < repeatInterval {
		r.leftOut++
		return 0, false
	}
	leftOut, r.leftOut, r.last = r.leftOut, 0, now
	return leftOut, true
}
