// Package progress tells a person that something still runs.
package progress

import "time"

// First is after how long something is reported for the first time, and Interval how often after that.
const (
	First    = time.Second
	Interval = 3 * time.Second
)

// Watch calls say with the time that has passed, first after [First] and then every [Interval], until stop is called.
// It calls say from one goroutine at a time, and never after stop has returned. Call stop exactly once.
func Watch(say func(elapsed time.Duration)) (stop func()) { return WatchEvery(Interval, say) }

// WatchEvery is [Watch] with another interval.
func WatchEvery(interval time.Duration, say func(elapsed time.Duration)) (stop func()) {
	return watch(First, func(time.Duration) time.Duration { return interval }, say)
}

// watch is Watch with other times: next returns the wait that follows another one.
func watch(
	first time.Duration, next func(wait time.Duration) time.Duration, say func(elapsed time.Duration),
) (stop func()) {
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		begin := time.Now()
		for wait := first; ; wait = next(wait) {
			timer := time.NewTimer(wait)
			select {
			case <-quit:
				timer.Stop()
				return
			case <-timer.C:
				say(time.Since(begin).Round(time.Second))
			}
		}
	}()
	return func() {
		close(quit)
		<-gone
	}
}
