package engine

import "time"

// clockSteps tells by how much the clock was set, by comparing it with the time that has passed. Its owner locks it.
type clockSteps struct {
	now   func() time.Time
	began time.Time // with a monotonic reading
	wall  time.Time // what the clock said then, without the steps that were accepted
}

func newClockSteps(now func() time.Time) clockSteps {
	return clockSteps{now: now, began: time.Now(), wall: now().Round(0)}
}

// unset returns what the clock would say if it hadn't been set since the last accept.
func (c *clockSteps) unset() time.Time { return c.wall.Add(time.Since(c.began)) }

// since returns by how much the clock was set since the last accept. It is negative if the clock was set back.
func (c *clockSteps) since() time.Duration { return c.now().Round(0).Sub(c.unset()) }

// accept takes the clock for right.
func (c *clockSteps) accept() { c.began, c.wall = time.Now(), c.now().Round(0) }
