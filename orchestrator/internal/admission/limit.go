package admission

import "time"

const (
	// initialLimit is the limit before anything is known of the participant.
	initialLimit = 32

	// patience is the share of a method's timeout that its calls should take at most.
	patience = 0.25

	// mostPatience is the share for calls that usually take long, and for those of which nothing is known yet.
	mostPatience = 0.75

	// smoothing is the weight of one call in the pressure.
	smoothing = 1.0 / 16

	// slowCut and timeoutCut are what remains of the limit when calls are slow, and when they time out.
	slowCut, timeoutCut = 0.9, 0.5

	// leastSlow is the lowest limit for calls that are slow but don't time out.
	leastSlow = 4

	// growth is the share by which the limit grows in the time of one call, after it was cut for the first time.
	growth = 1.0 / 16
)

// limit is an adaptive limit of calls in flight.
type limit struct {
	value    float64
	ceiling  float64
	inFlight int

	pressure float64   // the moving average of how long calls take, as a share of how long they should take at most
	cut      time.Time // when the value was cut the last time; zero while it has never been
}

func newLimit(ceiling int) limit {
	return limit{value: min(initialLimit, float64(ceiling)), ceiling: float64(ceiling)}
}

// hasRoom returns whether another call may begin.
func (l *limit) hasRoom() bool { return float64(l.inFlight) < max(l.value, 1) }

// isIdle returns whether few calls are in flight.
func (l *limit) isIdle() bool { return l.value <= leastSlow || 4*float64(l.inFlight) < l.value }

// call is one that ended.
type call struct {
	began, ended time.Time
	share        float64 // how long it took, as a share of how long it should have taken at most
	inFlight     int     // how many were in flight when it began, with itself
	timedOut     bool
}

// sample changes the limit by a call that ended.
func (l *limit) sample(c call) {
	if c.began.Before(l.cut) {
		return
	}
	l.pressure += (c.share - l.pressure) * smoothing
	switch {
	case l.pressure > 1 && c.share > 1:
		if c.timedOut {
			l.value = max(l.value*timeoutCut, 1)
		} else if l.value > leastSlow {
			l.value = max(l.value*slowCut, leastSlow)
		}
		l.pressure, l.cut = 1, c.ended
	case l.pressure > 1 || c.share > 1 || 2*float64(c.inFlight) < l.value:
		// It is slow, or the limit isn't used.
	case c.share*l.value/float64(c.inFlight) > 1:
		// It would be slow with as many in flight as there may be now.
	case l.cut.IsZero():
		l.value = min(l.value+1, l.ceiling)
	default:
		l.value = min(l.value+max(growth, 1/l.value), l.ceiling)
	}
}

// restart begins anew, as for a participant of which nothing is known. The calls in flight stay.
func (l *limit) restart() {
	l.value, l.pressure, l.cut = min(initialLimit, l.ceiling), 0, time.Time{}
}
