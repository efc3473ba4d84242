package dispatch

import (
	"sync"
	"sync/atomic"
	"time"
)

// silentCalls is how many calls in a row must get no answer before their participant, or their method, counts as one
// that doesn't answer. They must also have taken some time together, see Config.SilentAfter.
const silentCalls = 3

// silence counts the calls in a row that weren't answered in time. A call during which another one was answered doesn't
// count: it says something about that call alone. All methods may be called concurrently.
type silence struct {
	// answers is how many calls were answered. It is all that a call that is answered touches.
	answers atomic.Uint64

	// mu guards what follows: a run of calls, and how many calls had been answered when it began.
	mu    sync.Mutex
	run   int
	since time.Time
	began uint64
}

// begin returns what a call passes to unanswered.
func (s *silence) begin() uint64 { return s.answers.Load() }

// answered takes note of an answer.
func (s *silence) answered() { s.answers.Add(1) }

// unanswered takes note of a call that waited in vain until now. lasts returns whether there were enough of them, over
// at least the given time. alone returns whether other calls were answered meanwhile.
func (s *silence) unanswered(began uint64, waited, atLeast time.Duration, now time.Time) (lasts, alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers.Load() != began {
		return false, true
	}
	start := now.Add(-waited)
	if s.run == 0 || s.began != began {
		s.run, s.since, s.began = 0, start, began
	}
	s.run++
	if start.Before(s.since) {
		s.since = start
	}
	return s.run >= silentCalls && now.Sub(s.since) >= atLeast, false
}
