package admission

import "time"

// Rate limits how often something happens, with the generic cell rate algorithm (ITU-T I.371): what is earlier than
// the rate allows by more than the burst must wait. It isn't safe for concurrent use.
type Rate struct {
	interval, burst time.Duration
	next            time.Time // when the next one is due at the rate
}

// NewRate returns a rate. After a time in which nothing happened, as many as the burst may happen at once.
func NewRate(perSecond float64, burst int) *Rate {
	interval := time.Duration(float64(time.Second) / perSecond)
	return &Rate{interval: interval, burst: time.Duration(max(burst, 1)-1) * interval}
}

// Wait returns how long to wait until the next one may happen; 0 means that it may happen now.
func (r *Rate) Wait(now time.Time) time.Duration {
	if r.next.Before(now) {
		return 0
	}
	return max(r.next.Sub(now)-r.burst, 0)
}

// Idle returns whether nothing has happened for so long that the rate is like a new one.
func (r *Rate) Idle(now time.Time) bool { return r.next.Before(now) }

// Take counts one.
func (r *Rate) Take(now time.Time) {
	if r.next.Before(now) {
		r.next = now
	}
	r.next = r.next.Add(r.interval)
}
