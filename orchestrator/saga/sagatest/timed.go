package sagatest

import (
	"hash/fnv"
	"strings"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/engine"
)

const (
	// travelBase is the least time that a command of a timed run travels, if its timeout allows.
	travelBase = time.Millisecond

	// travelUnit is what a higher branch adds to it.
	travelUnit = 100 * time.Microsecond

	// travelMost is longer than any command of a timed run travels.
	travelMost = time.Minute
)

// travelTime returns how long a command travels to its participant in a timed run. Commands of the first branch arrive
// first, and no two arrive at the same moment, so that the run is the same each time.
func travelTime(at place) time.Duration {
	sum := 0
	for part := range strings.SplitSeq(at.where, "/") {
		for _, n := range numbersOf(part) {
			sum += n
		}
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(at.String())) // it returns no error
	return travelBase + time.Duration(sum%100)*travelUnit + time.Duration(hash.Sum32())%travelUnit
}

// travel lets a command of a timed run travel. It returns false if the run ends meanwhile.
func (d *drive) travel(at place, timeout time.Duration) bool {
	if !d.timed {
		return true
	}
	select {
	case <-time.After(min(travelTime(at), timeout/2)):
		return true
	case <-d.over:
		return false
	}
}

// placeOf returns the place of an attempt.
func (d *drive) placeOf(attempt *engine.Attempt) place {
	what := atAction
	if attempt.Direction == engine.Compensation {
		what = atCompensation
	}
	return place{what, d.nameOf(attempt.Saga) + attempt.Step}
}
