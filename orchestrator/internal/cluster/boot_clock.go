package cluster

import "time"

// wallTime returns the wall clock's time.
func wallTime() time.Duration { return time.Duration(time.Now().UnixNano()) }
