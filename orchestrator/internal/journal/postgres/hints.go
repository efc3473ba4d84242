package postgres

// hints tell Watch that a transaction of this instance has written something that others wait for. They may get lost.
type hints struct{ sent chan struct{} }

func newHints() hints { return hints{make(chan struct{}, 1)} }

// committed tells of a transaction that was committed.
func (h hints) committed(c *changes) {
	if len(c.events) == 0 && len(c.tell) == 0 {
		return
	}
	select {
	case h.sent <- struct{}{}:
	default: // one that nobody has seen is there already
	}
}
