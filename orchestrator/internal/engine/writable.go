package engine

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/treatyhq/treaty/orchestrator/internal/journal"
)

// probeInterval is how often a store that refused a commit is tried again, in case nobody else writes to it.
const probeInterval = time.Second

// writable says whether the store accepts commits. All methods may be called concurrently.
type writable struct {
	store   Store
	work    *work
	logger  *slog.Logger
	changed func(cause error)

	failing atomic.Bool // so that a commit that succeeds costs nothing

	mu      sync.Mutex // orders the changes of failing
	probing bool
}

// noted takes note of what became of a commit.
func (w *writable) noted(err error) {
	if err == nil && !w.failing.Load() || errors.Is(err, journal.ErrInvalid) || errors.Is(err, journal.ErrClosed) ||
		errors.Is(err, journal.ErrFenced) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil && w.failing.Swap(false):
		w.logger.Info("the store can be written again")
		w.changed(nil)
	case err != nil && !w.failing.Swap(true):
		w.changed(err)
		if !w.probing {
			w.probing = w.work.spawn(w.probe)
		}
	}
}

// probe writes to the store now and then until that succeeds.
func (w *writable) probe() {
	for w.fails() {
		select {
		case <-time.After(probeInterval):
		case <-w.work.closing:
			return
		}
		if w.failing.Load() {
			_, err := w.store.RaisePosition(w.work.ctx, 0)
			w.noted(err)
		}
	}
}

// fails returns whether the store still refuses commits. If not, the probe ends.
func (w *writable) fails() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probing = w.failing.Load()
	return w.probing
}
