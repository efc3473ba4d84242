package inbox

import "time"

// OnWait calls f with the number of calls that wait for their turn, each time when one more does. Batches have no limit
// of time from then on.
func OnWait(in *Inbox, f func(n int)) {
	c := in.ledger.together(in.db)
	c.turns.mu.Lock()
	defer c.turns.mu.Unlock()
	c.turns.waiting = f
	c.maxTime = time.Hour
}
