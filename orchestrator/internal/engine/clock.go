package engine

import "time"

// Clock tells the time and fires timers. All methods may be called concurrently.
type Clock interface {
	// Now returns the time.
	Now() time.Time

	// AfterFunc calls f on its own goroutine after d. The returned function prevents that. It returns false when f was
	// called already.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// wallClock is the machine's clock.
type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

func (wallClock) AfterFunc(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
