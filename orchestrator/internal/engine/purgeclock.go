package engine

import (
	"log/slog"
	"time"
)

const (
	// purgeTolerance is how far the clock may be from the time that has passed without being doubted.
	purgeTolerance = time.Minute

	// idleTolerance is how long a store may have been idle before the process began without the clock being doubted.
	idleTolerance = time.Hour

	// purgeDoubt is how long a clock that was set is doubted. Then it is taken for right.
	purgeDoubt = 24 * time.Hour
)

// purgeClock tells the time that retention counts by. A clock that was set ahead would make a purge delete what has
// just ended. So the time is that of the clock or the one by the time that has passed, whichever is earlier, until the
// clock was ahead for purgeDoubt. It isn't safe for concurrent use.
type purgeClock struct {
	steps   clockSteps
	logger  *slog.Logger
	doubted time.Time // since when; zero while the clock isn't doubted
}

func newPurgeClock(config *Config) *purgeClock {
	return &purgeClock{steps: newClockSteps(config.now), logger: config.Logger}
}

// beginAt says that it was that time at least when the store was last written to. If it is long ago, the orchestrator
// was down or had nothing to do, or the clock was set ahead.
func (c *purgeClock) beginAt(written time.Time) {
	idle := c.steps.since() + c.steps.wall.Sub(written)
	if idle < idleTolerance {
		return
	}
	c.steps.wall = written
	c.doubted = time.Now()
	c.logger.Info("no saga has changed for long, or the clock was set ahead; sagas and events are kept for that much "+
		"longer, until the orchestrator has run for a while", "idle", idle, "until", purgeDoubt)
}

// now returns the time that retention counts by.
func (c *purgeClock) now() time.Time {
	step := c.steps.since()
	switch {
	case step.Abs() < purgeTolerance:
		c.doubted = time.Time{}
		c.steps.accept()
	case c.doubted.IsZero():
		c.doubted = time.Now()
		c.logger.Warn("the clock was set; if it is wrong, correct it: sagas and events that are older than their "+
			"retention only because it was set are kept for now", "by", step, "for", purgeDoubt)
	case time.Since(c.doubted) >= purgeDoubt:
		c.logger.Warn("the clock was set and has stayed so; retention counts by it from now on", "by", step)
		c.doubted = time.Time{}
		c.steps.accept()
	}
	if wall := c.steps.now(); wall.Before(c.steps.unset()) {
		return wall
	}
	return c.steps.unset()
}
