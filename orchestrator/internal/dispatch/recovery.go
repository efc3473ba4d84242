package dispatch

import "time"

const (
	// initialProbeDelay and maxProbeDelay bound the wait before a participant that answered UNAVAILABLE is called
	// again. The wait doubles with each failure.
	initialProbeDelay = 100 * time.Millisecond
	maxProbeDelay     = 5 * time.Second

	// waveTimeout is how long a half-open breaker waits for the calls of a wave, if none fails, before it lets the
	// next wave go. A saga that was woken may no longer have a call to make, and a call may take an hour. As long as
	// the participant has answered nothing, the next wave is no larger.
	waveTimeout = 2 * time.Second

	// lastWave is the size of the last wave. After it the breaker is closed.
	lastWave = 256
)

// awaitRecovery brings an open breaker back to closed. It waits for the given time before the first probe, and longer
// before each further one.
func (b *breaker) awaitRecovery(delay time.Duration) {
	for b.pause(delay) && awaitReady(b.ctx, b.connection) && !b.probe() {
		delay = min(max(2*delay, initialProbeDelay), maxProbeDelay)
	}
}

// pause waits for a time with jitter, but not much longer than until the connection breaks: on a new one, the
// participant may be back. It returns false when the breaker is stopped.
func (b *breaker) pause(delay time.Duration) bool {
	start := min(delay, initialProbeDelay)
	if !sleepJittered(b.ctx, start, b.rand) {
		return false
	}
	if rest := delay - start; rest > 0 {
		waitWhileReady(b.ctx, b.connection, rest/2+time.Duration(b.rand()*float64(rest/2)))
	}
	return b.ctx.Err() == nil
}

// probe half-opens the breaker and lets calls go in growing waves. It returns true when the breaker is closed or
// stopped, and false when a call failed and the breaker is open again.
func (b *breaker) probe() bool {
	b.mu.Lock()
	probing := b.change(b.current(), halfOpen)
	b.mu.Unlock()

	timer := time.NewTimer(waveTimeout)
	defer timer.Stop()
	for size := 1; size <= lastWave; {
		woken, ok := b.nextWave(probing, size)
		if !ok {
			break
		}
		woken.wakeAll()
		timer.Reset(waveTimeout)
		switch b.endOfWave(probing, size, timer.C) {
		case waveFailed:
			return false
		case waveStopped:
			return true
		case wavePassed:
			size *= 2
		case waveSilent:
		}
	}

	b.mu.Lock()
	if b.current() != probing {
		b.mu.Unlock()
		return b.ctx.Err() != nil
	}
	b.change(probing, closed)
	woken := b.waiting.take(b.waiting.len)
	b.mu.Unlock()
	b.telemetry.BreakerClosed(b.target)
	b.logger.Info("participant is back", b.about()...)
	woken.wakeAll()
	return true
}

// nextWave admits the calls of a wave and returns those that wait for it. It returns false when no call waits for a
// second or later wave, or when a call of the wave before has failed.
func (b *breaker) nextWave(probing generation, size int) (woken waitlist, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.current() != probing || (size > 1 && b.waiting.len == 0) {
		return waitlist{}, false
	}
	b.admitted, b.finished = size, 0
	return b.waiting.take(size), true
}

// waveEnd is how a wave ended.
type waveEnd int

const (
	wavePassed waveEnd = iota
	waveFailed
	waveStopped
	waveSilent // the participant has answered nothing yet
)

// endOfWave waits until all calls of a wave have ended, one of them has failed, the timeout has passed, or the
// breaker is stopped.
func (b *breaker) endOfWave(probing generation, size int, timeout <-chan time.Time) waveEnd {
	for {
		select {
		case <-b.progress:
			b.mu.Lock()
			failed, finished := b.current() != probing, b.finished
			b.mu.Unlock()
			if failed {
				return waveFailed
			}
			if finished >= size {
				return wavePassed
			}
		case <-timeout:
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.silent {
				return waveSilent
			}
			return wavePassed
		case <-b.ctx.Done():
			return waveStopped
		}
	}
}
