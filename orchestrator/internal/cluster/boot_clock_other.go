//go:build !linux

package cluster

import "time"

// bootTime returns the wall clock's time, which goes on while the machine sleeps. A clock that is set back prolongs a
// lease; then the fence and the epochs alone keep two owners apart.
func bootTime() time.Duration { return wallTime() }
