package engine

import (
	"context"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/inflight"
)

// work is everything that may still commit: goroutines, and calls of the engine's methods. Stop waits for it.
type work struct {
	*inflight.Counter

	// ctx ends when attempts in flight are cut off.
	ctx    context.Context
	cutOff context.CancelFunc
}

func newWork() *work {
	w := &work{Counter: inflight.New()}
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
		f()
	}()
	return true
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
