package engine

import (
	"context"
	"time"

	"github.com/treatyhq/treaty/internal/growstack"
	"github.com/treatyhq/treaty/orchestrator/internal/inflight"
)

// work is everything that may still commit: goroutines, and calls of the engine's methods. Stop waits for it.
type work struct {
	*inflight.Counter

	// closing is closed when the engine begins to stop, and with it the waits of callers.
	closing chan struct{}

	// ctx ends when attempts in flight are cut off.
	ctx    context.Context
	cutOff context.CancelFunc
}

func newWork() *work {
	w := &work{Counter: inflight.New(), closing: make(chan struct{})}
	w.ctx, w.cutOff = context.WithCancel(context.Background())
	return w
}

// spawn runs f on its own goroutine. It returns false, and doesn't run f, when the engine is stopping.
func (w *work) spawn(f func()) bool {
	if !w.Enter() {
		return false
	}
	go func() {
		defer w.Leave()
		growstack.Grow()
		f()
	}()
	return true
}

// Close refuses further work, and ends the waits of callers. It returns false if it was called before.
func (w *work) Close() bool {
	first := w.Counter.Close()
	if first {
		close(w.closing)
	}
	return first
}

// stop waits for the work in flight until ctx ends, then cuts off attempts and waits for what remains.
func (w *work) stop(ctx context.Context) {
	w.Wait(ctx)
	w.cutOff()
	w.Wait(context.WithoutCancel(ctx)) // attempts return at once when they are cut off
}

// pause waits for d. It returns false when the engine is stopping.
func (w *work) pause(d time.Duration) bool {
	if w.Closed() {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return !w.Closed()
	case <-w.ctx.Done():
		return false
	}
}
